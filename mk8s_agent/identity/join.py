"""First contact: a join token and the pin of central's CA become an identity.

Called by ``mk8s_agent.main`` when there is no identity yet. The order is what protects the token:

1. ``GET /ca.pem`` over a connection that is not verified; what it gives is only compared with the
   pin, in constant time. (Without a pin, the system's trust store or a given CA file decides, and
   this step is left out. There is no unverified way.)
2. ``POST /join`` over a new connection that trusts exactly the certificate that the pin names: the
   token, and a certificate request whose key was made here and stays here.

Central that is down or restarting is tried again with jitter, for a minute; an answer that says no
is final.
"""

import asyncio
import dataclasses
import email.utils
import hmac
import random
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from urllib.parse import urlsplit

import orjson

from mk8s_agent.apiserver.own_requests import connect_reason
from mk8s_agent.identity.store import AgentIdentity, IdentityError, check_clock, make_identity
from mk8s_agent.wire import pki, tls
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.egress_proxy import Proxy
from mk8s_agent.wire.https_call import CallError, Place, https_call

JOIN_SECONDS: Final = 60.0
"""How long central may be away before the agent gives up joining."""
MAX_SKEW_SECONDS: Final = 300.0
"""Beyond it certificates begin to look invalid, and central refuses the tunnel."""

_ATTEMPT_SECONDS: Final = 15.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
_MAX_ANSWER_BYTES: Final = 262144
_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"
)
_NOT_YET_VALID: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID
_HAS_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED


class JoinError(Exception):
    """There will be no identity this way; the sentence says what to do."""


class _NotNow(Exception):
    """Central cannot be asked at the moment; worth another try."""


@dataclasses.dataclass(frozen=True, slots=True)
class JoinRequest:
    """What the agent was given to join with."""

    central_url: str
    """``https://host:port``; a path is kept."""
    cluster_name: str
    join_token: str = dataclasses.field(repr=False)
    ca_pin: str = ""
    """``sha256:<hex>`` of the CA's public key; "" when `authority_pem` or the system decides."""
    authority_pem: bytes = b""
    """The CA to trust when there is no pin; empty means the system's trust store."""
    seconds: float = JOIN_SECONDS
    proxy: Proxy | None = None
    """On the way to central; None goes directly."""


class Pauses(Protocol):
    """Time, so that tests need none."""

    def now(self) -> float:
        """Give the time in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class RealPauses:
    """The machine's time."""

    def now(self) -> float:
        """Give the time in seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Give seconds that never jump."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


async def join(
    request: JoinRequest, announce: Callable[[str], object], pauses: Pauses | None = None
) -> AgentIdentity:
    """Join the cluster and give the new identity; it is the caller's to keep.

    Args:
        request: what to join with.
        announce: told, in one line, each time that central cannot be reached.
        pauses: time; the machine's own when not given.

    Raises:
        JoinError: refused, untrusted, or out of reach for too long.
    """
    attempt = _Join(request, announce, pauses or RealPauses())
    context = await attempt.trusted_context()
    return await attempt.exchange(context)


class _Join:
    def __init__(
        self, request: JoinRequest, announce: Callable[[str], object], pauses: Pauses
    ) -> None:
        self._request = request
        self._announce = announce
        self._pauses = pauses
        self._deadline = pauses.monotonic() + request.seconds
        self._base = request.central_url.rstrip("/")
        self._url = urlsplit(self._base)
        self._address = self._url.netloc
        self._lost_answer = False

    # -- whom to trust

    async def trusted_context(self) -> ssl.SSLContext:
        request = self._request
        if not request.ca_pin:
            return self._context(request.authority_pem)
        unverified = tls.apiserver_context(b"", insecure=True, http2=False)
        content = await self._persist(lambda: self._fetch(unverified))
        return self._context(self._pinned(content))

    def _context(self, authority_pem: bytes) -> ssl.SSLContext:
        try:
            context = tls.apiserver_context(authority_pem, http2=False)
        except (ssl.SSLError, ValueError) as error:
            raise JoinError(
                "the CA certificate to trust cannot be read; check --ca-file"
            ) from error
        # What the pin names is trusted as it is, also when it is not self-signed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    async def _fetch(self, context: ssl.SSLContext) -> bytes:
        status, content = await self._send(context, "GET", "/ca.pem", None)
        if status != 200:
            raise JoinError(
                f"{self._base}/ca.pem answered {status}: CENTRAL_URL is not that of mk8s-central"
            )
        return content

    def _pinned(self, content: bytes) -> bytes:
        found = []
        for match in _CERTIFICATE.finditer(content):
            try:
                pin = pki.spki_pin(match[0])
            except (pki.PkiError, ValueError):
                continue
            if hmac.compare_digest(pin, self._request.ca_pin):
                return match[0] + b"\n"
            found.append(pin)
        raise JoinError(
            f"the CA of {self._address} has the pin {', '.join(found) or '(none)'}, not the "
            f"expected {self._request.ca_pin}: check CENTRAL_URL and CA_PIN; if they are right, "
            "somebody is in between"
        )

    # -- the exchange

    async def exchange(self, context: ssl.SSLContext) -> AgentIdentity:
        # One key for all tries: central may recognise the request it has answered already.
        key = pki.new_key()
        body = orjson.dumps(
            {
                "token": self._request.join_token,
                "cluster": self._request.cluster_name,
                "csr": pki.csr(key, self._request.cluster_name).decode(),
            }
        )
        content = await self._persist(lambda: self._post(context, body))
        return self._identity(pki.key_to_pem(key), content)

    async def _post(self, context: ssl.SSLContext, body: bytes) -> bytes:
        status, content = await self._send(context, "POST", "/join", body)
        if status in (200, 201):
            return content
        reason = _error_message(content)
        if status == 429 or status >= 500:
            raise _NotNow(f"central answered {status}{reason and ': ' + reason}")
        cluster = self._request.cluster_name
        advice = "check CENTRAL_URL and CLUSTER_NAME"
        if status in (401, 403):
            advice = f"get a new join token: mk8s admin clusters join-token {cluster}"
        if self._lost_answer:
            advice += " (an earlier try, whose answer was lost, may have used the token)"
        raise JoinError(
            f"central refused to let cluster {cluster!r} join: {reason or f'status {status}'}; "
            f"{advice}"
        )

    def _identity(self, private_key_pem: bytes, content: bytes) -> AgentIdentity:
        try:
            answer = orjson.loads(content)
            identity = make_identity(
                cluster_name=self._request.cluster_name,
                private_key_pem=private_key_pem,
                certificate_pem=answer["certificate"].encode(),
                authority_pem=answer["ca_certificate"].encode(),
            )
            named = answer["cluster_id"]
        except (ValueError, KeyError, TypeError, AttributeError, IdentityError) as error:
            raise JoinError(
                "central's answer to the join is not understood: are central and agent of "
                "releases that fit?"
            ) from error
        if named != identity.cluster_id:
            raise JoinError("central issued the certificate of another cluster; tell its operator")
        try:
            check_clock(identity, self._pauses.now())
        except IdentityError as error:
            raise JoinError(str(error)) from error
        return identity

    # -- one request, and how often

    async def _persist(self, attempt: Callable[[], Awaitable[bytes]]) -> bytes:
        pause = _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except _NotNow as error:
                reason = str(error)
            left = self._deadline - self._pauses.monotonic()
            if left <= 0:
                raise JoinError(
                    f"cannot join at {self._address}: {reason}; "
                    "check CENTRAL_URL and that mk8s-central runs, then start the agent again"
                )
            self._announce(f"{self._address}: {reason}; trying for another {left:.0f} seconds")
            # Full jitter, so that agents that start together do not come together.
            await self._pauses.sleep(min(random.uniform(0, pause), left))  # noqa: S311  no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _send(
        self, context: ssl.SSLContext, method: str, path: str, body: bytes | None
    ) -> tuple[int, bytes]:
        url = self._url
        place = Place(
            url.hostname or "", url.port or 443, context, url.hostname or "", self._request.proxy
        )
        try:
            answer = await https_call(
                place,
                method,
                url.path + path,
                {"Content-Type": "application/json", "User-Agent": "mk8s-agent"},
                body or b"",
                limit=_MAX_ANSWER_BYTES,
                seconds=_ATTEMPT_SECONDS,
            )
        except DialError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise JoinError(self._untrusted(error.__cause__)) from error
            raise _NotNow(f"cannot connect ({_one_line(connect_reason(error))})") from error
        except CallError as error:
            self._lost_answer = method == "POST"
            raise _NotNow(f"no answer ({_one_line(str(error))})") from error
        self._check_skew(answer.headers.get("date", ""))
        return answer.status, answer.body

    def _check_skew(self, date: str) -> None:
        try:
            theirs = email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            return  # no clock shown: nothing to compare
        skew = self._pauses.now() - theirs
        if abs(skew) > MAX_SKEW_SECONDS:
            raise JoinError(
                f"the clock of this machine is {abs(skew):.0f} seconds "
                f"{'ahead of' if skew > 0 else 'behind'} central's: check the clock of both"
            )

    def _untrusted(self, error: Exception) -> str:
        code = getattr(error, "verify_code", 0)
        reason = getattr(error, "verify_message", "") or "the certificate does not fit"
        if code in (_NOT_YET_VALID, _HAS_EXPIRED):
            advice = "check the clock of this machine"
        elif self._request.ca_pin:
            advice = "check that CENTRAL_URL has a name that is in central's certificate"
        else:
            advice = "give the CA_PIN that mk8s admin clusters add printed, or --ca-file"
        return f"{self._address} is not trusted ({_one_line(reason)}): {advice}"


def _error_message(content: bytes) -> str:
    """What central says: `detail` of RFC 9457, or what centrals before 0.2 have in its place."""
    try:
        answer = orjson.loads(content)
        message = answer["detail"] if "detail" in answer else answer["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return _one_line(message) if isinstance(message, str) else ""


def _one_line(text: str) -> str:
    """Make one printable line of at most 300 characters: it comes from the other side."""
    return "".join(char if char.isprintable() else " " for char in text)[:300]
