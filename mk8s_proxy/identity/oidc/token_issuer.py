"""One issuer whose tokens are believed: its discovery document and its keys, remembered.

Used by `provider` for people and by `api` for jobs. Keys are fetched again when they are old, and
when a token names one that is not known, since issuers change them; strangers who make up names of
keys cannot make central ask more often than once in some seconds.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from mk8s_proxy.identity.oidc import id_token
from mk8s_proxy.identity.oidc.errors import UnknownKey, Unreachable
from mk8s_proxy.identity.oidc.fetch import LONGEST_ANSWER, Fetcher
from mk8s_proxy.identity.oidc.id_token import Expected
from mk8s_proxy.identity.oidc.keys import KeySet
from mk8s_proxy.identity.request_rate import RequestRate
from mk8s_proxy.settings.login import FederationSettings, IdentitySource, is_loopback

FRESH_SECONDS: Final = 300.0
"""After so long keys and the discovery document are fetched again when they are needed."""
STALE_SECONDS: Final = 3600.0
"""So old may they be where the issuer does not answer: then nobody is let in by them any more."""
FETCHES_A_MINUTE: Final = 6
"""Of each of the two documents, whoever asks for whatever key: one in ten seconds in the long
run."""
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_LONGEST_URL: Final = 2048
_Document = TypeVar("_Document")


class _Remembered(Generic[_Document]):
    """A document that is fetched once for all who need it at the same time."""

    def __init__(self, fetch: Callable[[], Awaitable[_Document]], clock: Callable[[], float]):
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._rate = RequestRate(FETCHES_A_MINUTE, clock)
        self._fetches = 0
        self._problem = ""
        self._found: tuple[float, _Document] | None = None

    async def get(self, *, most: float = FRESH_SECONDS) -> _Document:
        """Return it, fetched anew if it is older than `most`, and if that is not too often.

        Raises:
            Unreachable: It cannot be fetched, and what is there is too old.
        """
        # What is good is good while somebody else fetches: else a token that names a key which
        # nobody has, of a stranger, would make all others wait for a slow issuer.
        enough = STALE_SECONDS if most > 0 and self._lock.locked() else most
        if self._found and self._age() < enough:
            return self._found[1]
        before = self._fetches
        async with self._lock:
            if self._found and self._age() < most:
                return self._found[1]
            # Who waited for the fetch of somebody else takes what came of it.
            if self._fetches == before and not self._rate.take(""):
                await self._renew()
        if self._found and self._age() < STALE_SECONDS:
            return self._found[1]
        raise Unreachable(self._problem or "the issuer was asked too often: try again in a minute")

    def _age(self) -> float:
        return self._clock() - self._found[0] if self._found else STALE_SECONDS

    async def _renew(self) -> None:
        try:
            self._found = (self._clock(), await self._fetch())
        except Unreachable as error:
            self._problem = str(error)
        self._fetches += 1  # not by who gave up: then the next one fetches


class TokenIssuer:
    """Verifies the tokens of one issuer.

    Args:
        source: the settings of it.
        clock: epoch seconds.
        monotonic: seconds that never jump.
        fetcher: the way there; by default that of the settings.
    """

    def __init__(
        self,
        source: IdentitySource,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        fetcher: Fetcher | None = None,
    ) -> None:
        self.source = source
        self.fetcher = fetcher or Fetcher(source.ca_file)
        self._clock = clock
        self._document = _Remembered(self._fetch_document, monotonic)
        self._keys = _Remembered(self._fetch_keys, monotonic)

    async def verify(self, token: str, expected: Expected) -> dict[str, Any]:
        """Return the claims of a good token.

        Raises:
            Refused: It is not good.
            Unreachable: The issuer's keys are not to be had.
        """
        id_token.header_of(token, expected.longest)  # before anything is asked of anybody
        keys = await self._keys.get()
        try:
            return id_token.verify(token, keys, expected, self._clock())
        except UnknownKey:
            keys = await self._keys.get(most=0.0)
        return id_token.verify(token, keys, expected, self._clock())

    async def document(self) -> dict[str, Any]:
        """Return the discovery document, whose addresses are looked at by `endpoint`.

        Raises:
            Unreachable: There is none to be had, or it is another issuer's.
        """
        return await self._document.get()

    async def endpoint(self, name: str) -> str:
        """Return an address of the discovery document.

        Raises:
            Unreachable: It is not there, or no address that central would send a secret to.
        """
        url = (await self.document()).get(name)
        if not isinstance(url, str) or not self._is_safe(url):
            raise Unreachable(f"the issuer {self.source.name} names no usable {name}")
        return url

    async def _fetch_document(self) -> dict[str, Any]:
        found = await self.fetcher.get(self.source.issuer.rstrip("/") + _WELL_KNOWN)
        if found.get("issuer") != self.source.issuer:  # OpenID Connect Discovery section 4.3
            raise Unreachable(
                f"the issuer {self.source.name} calls itself otherwise than the setting issuer"
            )
        return found

    async def _fetch_keys(self) -> KeySet:
        if isinstance(self.source, FederationSettings) and self.source.jwks_file is not None:
            return KeySet.parse(self._read(self.source))
        return KeySet.parse(await self.fetcher.get(await self.endpoint("jwks_uri")))

    @staticmethod
    def _read(source: FederationSettings) -> object:
        assert source.jwks_file is not None
        try:
            with source.jwks_file.open("rb") as file:
                return json.loads(file.read(LONGEST_ANSWER))
        except (OSError, ValueError, RecursionError):
            raise Unreachable(f"{source.name}: jwks_file: cannot be read as JSON") from None

    def _is_safe(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return False
        if not host or port == 0 or "@" in parts.netloc or parts.fragment:
            return False
        if len(url) > _LONGEST_URL or not (url.isascii() and url.isprintable()) or " " in url:
            return False
        local = self.source.allow_http and is_loopback(host)
        return parts.scheme == "https" or (parts.scheme == "http" and local)
