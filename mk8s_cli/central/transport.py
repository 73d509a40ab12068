"""HTTPS calls to central: one connection each, one time limit, retries where they are safe.

Called by `api.py` alone. Uses http.client and ssl: an HTTP library costs more start-up time than
the call itself. Redirects are never followed, so a token goes to the address that was typed or
nowhere.

Retries: what is repeatable (a GET, or a refresh that central knows again) on any connection failure
and on 429, 502, 503 and 504; everything else only when no connection was made, since central may
have acted on a request whose answer was lost. All tries and addresses of one call share one
deadline (`connection.py`).
"""

import base64
import http.client
import json
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from mk8s_cli.central.connection import Connection, Deadline
from mk8s_cli.terminal.errors import CliError, Refused, Unreachable, UntrustedCertificate
from mk8s_cli.terminal.screen import one_line, warn

if TYPE_CHECKING:
    from mk8s_cli.central.egress_proxy import Proxy

AGENT = "mk8s-cli"
"""What we call ourselves. CLIs that knew no pages of lists said "mk8s"."""
TIMEOUT_SECONDS = 15.0
"""For a whole call, from the look-up of the name to the last byte of the last try."""
TRIES = 3
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
MAX_ANSWER_BYTES = 8 << 20
CLOCK_SECONDS = 60.0
"""Clocks further apart make valid tokens and certificates look invalid: worth a warning."""

TRUST_HEADER = "x-mk8s-trust"
"""SHA-256 of what `GET /ca.pem` answers, where central's own authority is in use."""
RETRY_CODES = frozenset({429, 502, 503, 504})
_NOT_YET_VALID, _EXPIRED, _HOST_MISMATCH, _ADDRESS_MISMATCH = 9, 10, 62, 64
_WORD = re.compile(r"[a-z_]{1,64}")
_NO_TRUST = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's X509_V_ERR_* for "signed by an authority that is not in my list"."""


class Answer(NamedTuple):
    """One HTTP answer: status, headers with lower-case names, body."""

    code: int
    headers: dict[str, str]
    body: bytes


def trusting(certificate_authority: str = "") -> ssl.SSLContext:
    """Return a verifying context: this machine's authorities, or exactly the one given in PEM."""
    context = _context()
    if certificate_authority:
        # A pinned authority is an anchor even when it is not self-signed, as in Go.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=certificate_authority)
    else:
        context.load_default_certs()
    return context


def unverified() -> ssl.SSLContext:
    """Return a context that checks nothing: to fetch the certificate whose pin is checked then."""
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Transport:
    """Calls one central and keeps what its answers say about the clock."""

    def __init__(
        self, central: str, context: ssl.SSLContext, *, tries: int = TRIES, quiet: bool = False
    ) -> None:
        """Call `central` (https://host[:port]) through `context`, at most `tries` times.

        `quiet` leaves the warning about clocks to the calls that follow.
        """
        self.central = central
        self.clock_skew = 0.0
        self.trust_told = ""
        """By which digest central named what it is to be verified by; "" where it said nothing."""
        self._context = context
        self._tries = tries
        self._warned = quiet

    def call(
        self,
        method: str,
        path: str,
        *,
        token: str = "",
        payload: object | None = None,
        form: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """Send one request, with a body in JSON or as a form, and return a 2xx answer.

        `repeatable` says of another method than GET that central takes it twice for once.

        Raises:
            Unreachable: no connection, no answer in time, or a certificate that does not verify.
            Refused: central answered with an error; the message is central's, on one line.
        """
        headers = {"Accept": "application/json", "User-Agent": AGENT}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        body, media = _body(payload, form)
        if media:
            headers["Content-Type"] = media
        repeatable = repeatable or method == "GET"
        deadline = Deadline(TIMEOUT_SECONDS)
        for left in reversed(range(self._tries)):
            pause = _pause(self._tries - left)
            try:
                answer = self._exchange(method, path, headers, body, deadline)
            except OSError as error:
                if not left or not deadline.allows(pause) or not _may_repeat(error, repeatable):
                    raise self._unreachable(error) from error
            else:
                asked = _retry_after(answer)
                pause = pause if asked is None else asked
                again = left and repeatable and answer.code in RETRY_CODES
                if not again or pause > LONGEST_PAUSE_SECONDS or not deadline.allows(pause):
                    return self._accept(answer)
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _exchange(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
        deadline: Deadline,
    ) -> Answer:
        connection = _connection(self.central, self._context, deadline)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read(MAX_ANSWER_BYTES + 1)
            fields = {name.lower(): value for name, value in response.getheaders()}
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer is not HTTP ({type(error).__name__})") from error
        finally:
            connection.close()
        if len(content) > MAX_ANSWER_BYTES:
            raise Unreachable(f"{self.central} answers with more than {MAX_ANSWER_BYTES} bytes")
        self._read_clock(fields.get("date", ""))
        self.trust_told = fields.get(TRUST_HEADER, "")
        return Answer(response.status, fields, content)

    def _unreachable(self, error: OSError) -> Unreachable:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _certificate_error(self.central, error)
        return Unreachable(
            f"cannot reach central at {self.central}: {_cause(error)}; "
            "check the address, the network and that central is running"
        )

    def _accept(self, answer: Answer) -> Answer:
        if answer.code < 300:
            if abs(self.clock_skew) > CLOCK_SECONDS and not self._warned:
                self._warned = True
                warn(_clock_line(self.clock_skew))
            return answer
        message = _message(answer) or f"central answered {answer.code} to this request"
        if answer.code == 401 and abs(self.clock_skew) > CLOCK_SECONDS:
            message = f"{message}; {_clock_line(self.clock_skew)}"
        raise Refused(answer.code, message, _retry_after(answer), _word(answer))

    def _read_clock(self, date: str) -> None:
        try:
            self.clock_skew = time.time() - parsedate_to_datetime(date).timestamp()
        except ValueError:
            self.clock_skew = 0.0


def _body(payload: object | None, form: Mapping[str, str] | None) -> tuple[bytes | None, str]:
    """Return a body and its media type, None and "" for none."""
    if form is not None:
        return urlencode(form).encode(), "application/x-www-form-urlencoded"
    return (None, "") if payload is None else (json.dumps(payload).encode(), "application/json")


def _connection(central: str, context: ssl.SSLContext, deadline: Deadline) -> Connection:
    parts = urlsplit(central)
    host, port = parts.hostname or "", parts.port or 443
    proxy = _egress_proxy(host, port)
    if proxy is None:
        return Connection(host, port, context, deadline)
    if proxy.scheme != "http":
        raise CliError(f"HTTPS_PROXY must look like http://host:port; {proxy.scheme} is not known")
    connection = Connection(proxy.host, proxy.port, context, deadline)
    headers = {}
    if proxy.user or proxy.password:
        pair = f"{proxy.user}:{proxy.password}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    connection.set_tunnel(host, port, headers)
    return connection


def _egress_proxy(host: str, port: int) -> "Proxy | None":
    """Return the proxy that kubectl would use too, if any."""
    if not (os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")):
        return None
    from mk8s_cli.central.egress_proxy import EgressProxies, ProxyError

    try:
        return EgressProxies.of_environment(os.environ).to(host, port)
    except ProxyError as error:
        raise CliError(str(error)) from None


def _may_repeat(error: OSError, repeatable: bool) -> bool:
    """Whether another try is safe, and may help."""
    if isinstance(error, ssl.SSLError):
        return False
    nothing_sent = isinstance(error, (ConnectionRefusedError, socket.gaierror))
    return nothing_sent or repeatable


def _pause(attempt: int) -> float:
    ceiling = min(FIRST_PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS)
    return random.uniform(0, ceiling)  # noqa: S311  spreads retries, no secret


def _retry_after(answer: Answer) -> float | None:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 6 else None


def _refusal(answer: Answer) -> dict[str, Any]:
    """Return what a refusal says as an object, {} if it says something else."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _word(answer: Answer) -> str:
    """Return the code of a problem, "" if it has none that is a plain word."""
    document = _refusal(answer)
    word = document.get("code") or document.get("error")
    return word if isinstance(word, str) and _WORD.fullmatch(word) else ""


def _message(answer: Answer) -> str:
    """Return the sentence of a problem (RFC 9457), of an older central's error, or of a Status."""
    document = _refusal(answer)
    error = document.get("error")
    older = error if isinstance(error, dict) else document
    message = document.get("detail") or older.get("message")
    return one_line(message) if isinstance(message, str) else ""


def _clock_line(skew: float) -> str:
    direction = "ahead of" if skew > 0 else "behind"
    return f"this machine's clock is {abs(skew):.0f} s {direction} central's: set the clock right"


def _cause(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the name is not known"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({getattr(error, 'reason', '') or 'no reason given'})"
    return one_line(error.strerror or str(error)).lower()


def _certificate_error(central: str, error: ssl.SSLCertVerificationError) -> Unreachable:
    """Return the error that names what a person can do about an unverified certificate."""
    code = error.verify_code
    if code in {_NOT_YET_VALID, _EXPIRED}:
        state = "not valid yet" if code == _NOT_YET_VALID else "expired"
        return Unreachable(
            f"the certificate of {central} is {state} by this machine's clock "
            f"({time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC); set the clock right, "
            "or have central's certificate renewed"
        )
    if code in {_HOST_MISMATCH, _ADDRESS_MISMATCH}:
        return Unreachable(
            f"the certificate of {central} is for other names; use the address central was set up "
            "with (public_url)"
        )
    if code in _NO_TRUST:
        return UntrustedCertificate(
            f"the certificate of {central} is not signed by an authority trusted here"
        )
    return Unreachable(f"the certificate of {central} is refused: {one_line(error.verify_message)}")
