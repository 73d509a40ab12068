"""HTTP for the tests of single sign-on: cookies are kept, redirects followed by hand only."""

import http.client
import http.cookiejar
import json
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import IO, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import trustme

SECONDS = 30
LONGEST = 4 << 20


@dataclass(frozen=True)
class Answer:
    """What came back."""

    url: str
    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        """Where it sends the client; AssertionError if it does not."""
        assert 300 <= self.status < 400, (self.status, self.text)
        return urljoin(self.url, self.headers["Location"])


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        return None


class Caller:
    """One client with cookies of its own, like a browser without a window."""

    def __init__(self, *authorities: trustme.CA) -> None:
        context = ssl.create_default_context()
        for authority in authorities:
            authority.configure_trust(context)
        self.context = context
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(self.cookies),
            _NoRedirect(),
        )

    def call(
        self,
        method: str,
        url: str,
        *,
        json_body: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent["Content-Type"] = "application/json"
        request = urllib.request.Request(url, body, sent, method=method)
        try:
            answer = self._opener.open(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Answer(url, answer.status, answer.headers, answer.read(LONGEST))

    def get(
        self, url: str, headers: Mapping[str, str] | None = None, /, **parameters: str
    ) -> Answer:
        return self.call("GET", with_query(url, **parameters), headers=headers)

    def post_json(self, url: str, body: Any, token: str = "") -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.call("POST", url, json_body=body, headers=headers)

    def post_form(self, url: str, form: Mapping[str, str], **headers: str) -> Answer:
        sent = {"Content-Type": "application/x-www-form-urlencoded"} | headers
        return self.call("POST", url, body=urlencode(form).encode(), headers=sent)


def with_query(url: str, **parameters: str) -> str:
    """The URL with more parameters."""
    if not parameters:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


def query_of(url: str) -> dict[str, str]:
    """The parameters of a URL; none is there twice."""
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), url
    return dict(pairs)
