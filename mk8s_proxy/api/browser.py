"""What browsers get: a few small pages without scripts, a cookie that binds them, redirects.

Used by `sso` and `device`. Everything that somebody else chose is escaped. A form is only taken
with a token that is worked out of the browser's cookie, so that no other site can send it.
"""

import base64
import hashlib
import hmac
import html
import re
import secrets
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from mk8s_proxy.api.endpoint import Call
from mk8s_proxy.api.errors import ApiError

COOKIE: Final = "__Host-mk8s-login"
"""The prefix makes browsers take it from this host only, by HTTPS, for all of its paths."""
COOKIE_SECONDS: Final = 1200
LONGEST_FORM: Final = 4096
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:4em auto;padding:0 1em}"
    "dt{font-weight:600}input,button{font:inherit;padding:.4em .8em}button{margin-right:.6em}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Browser:
    """The browser of one request, known by its cookie; it gets one if it has none."""

    def __init__(self, call: Call) -> None:
        assert call.request is not None
        found = call.request.cookies.get(COOKIE, "")
        self.is_known = _SECRET.fullmatch(found) is not None
        self._secret = found if self.is_known else secrets.token_urlsafe(32)

    @property
    def binding(self) -> str:
        """What the database knows it by."""
        return self._digest("binding")

    @property
    def form_token(self) -> str:
        """What its forms carry."""
        return self._digest("form")

    def is_bound(self, binding: str) -> bool:
        """Whether it is the one that something was begun in."""
        return self.is_known and hmac.compare_digest(binding, self.binding)

    def give(self, response: web.Response) -> web.Response:
        """Set the cookie again, for as long as a login takes."""
        response.set_cookie(
            COOKIE,
            self._secret,
            max_age=COOKIE_SECONDS,
            path="/",
            secure=True,
            httponly=True,
            samesite="Lax",
        )
        return response

    def _digest(self, purpose: str) -> str:
        return hashlib.sha256(f"mk8s {purpose} {self._secret}".encode()).hexdigest()


async def read_form(call: Call, browser: Browser) -> dict[str, str]:
    """Read a form that this browser got from here.

    Raises:
        ApiError: It is none, or another site's (CSRF).
    """
    request = call.request
    assert request is not None
    if request.content_type != "application/x-www-form-urlencoded":
        raise ApiError(415, "send the form of the page")
    body = await request.content.read(LONGEST_FORM + 1)
    if len(body) > LONGEST_FORM:
        raise ApiError(413, "the form is too long")
    try:
        form = dict(parse_qsl(body.decode("ascii"), max_num_fields=16))
    except ValueError:
        raise ApiError(400, "that is no form") from None
    if not browser.is_known or not hmac.compare_digest(
        form.get("token", "").encode("utf-8", "surrogatepass"), browser.form_token.encode()
    ):
        raise ApiError(403, "the page is too old, or of another site: open it again")
    return form


def page(title: str, *parts: str, status: int = 200, onward: str = "") -> web.Response:
    """Make a page.

    Args:
        title: Plain text.
        parts: HTML, made by the functions below.
        status: Of HTTP.
        onward: A URL that the browser goes on to by itself: not by a redirect, since a form's may
            not leave this site.
    """
    refresh = f'<meta http-equiv="refresh" content="0;url={escape(onward)}">' if onward else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"{refresh}<title>{escape(title)} - mk8s</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>"
    )
    headers = {
        "Content-Security-Policy": _POLICY,
        # No other site learns the address. With "no-referrer" browsers would send the forms with
        # "Origin: null", as they do those of another site, and the listener refuses that.
        "Referrer-Policy": "same-origin",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def facts(**said: str) -> str:
    """Names and values; "_" in a name is a space."""
    rows = [
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(value)}</dd>"
        for name, value in said.items()
    ]
    return f"<dl>{''.join(rows)}</dl>"


def link(url: str, text: str) -> str:
    """A link."""
    return f'<p><a href="{escape(url)}">{escape(text)}</a></p>'


def form(browser: Browser, path: str, *fields: str) -> str:
    """A form that is sent to here."""
    token = f'<input type="hidden" name="token" value="{browser.form_token}">'
    return f'<form method="post" action="{escape(path)}">{token}{"".join(fields)}</form>'


def hidden(name: str, value: str) -> str:
    """A field that nobody sees."""
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


def field(name: str, label: str, value: str) -> str:
    """A line of text."""
    return (
        f'<p><label>{escape(label)} <input name="{escape(name)}" value="{escape(value)}" '
        'autocomplete="off" autofocus required maxlength="32"></label></p>'
    )


def button(name: str, value: str, label: str) -> str:
    """A way to send the form."""
    return f'<button name="{escape(name)}" value="{escape(value)}">{escape(label)}</button>'


def escape(text: str) -> str:
    """Text as HTML, in attributes, too."""
    return html.escape(text, quote=True)


def redirect(url: str) -> web.Response:
    """Send a browser elsewhere; only with addresses that were checked."""
    headers = {hdrs.LOCATION: url, "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)
