"""A provider of people: the authorization code flow with PKCE, and the refresh.

Called by `api`. OpenID Connect Core 1.0 section 3.1, RFC 7636, RFC 9207. Central is a client of the
provider; the browser brings a code, which central alone can exchange.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from mk8s_proxy.identity.oidc import id_token
from mk8s_proxy.identity.oidc.claims import Person, groups_of, person_of, subject_of
from mk8s_proxy.identity.oidc.errors import Ended, Refused, Unreachable
from mk8s_proxy.identity.oidc.fetch import Answer, Fetcher
from mk8s_proxy.identity.oidc.id_token import Expected
from mk8s_proxy.identity.oidc.token_issuer import TokenIssuer
from mk8s_proxy.settings.login import IssuerSettings

_LONGEST_SECRET: Final = 64 << 10
"""Of a refresh token or an access token: some hold all groups of their person."""

_OVER: Final = (
    "invalid_grant",
    "access_denied",
    "account_selection_required",
    "consent_required",
    "interaction_required",
    "login_required",
)
"""How providers say that somebody is out, or has to come in person (RFC 6749 section 5.2, OpenID
Connect Core section 3.1.2.6): Entra ID has the last ones at a refresh, too."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one login at a provider is known by; it never leaves central but as hash or in a URL."""

    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)


@dataclass(frozen=True, slots=True)
class Vouched:
    """Who a provider says it is, and by what it can be asked again."""

    person: Person
    refresh_token: str = field(repr=False)
    """ "" where it gave none."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a provider says when it is asked again."""

    groups: tuple[str, ...]
    refresh_token: str = field(repr=False)
    """For the next time."""


class Provider:
    """One provider of people.

    Args:
        settings: what is set for it.
        redirect_uri: central's own address to which it returns.
        clock: epoch seconds.
        monotonic: seconds that never jump.
        fetcher: the way there; by default that of the settings.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        redirect_uri: str,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        fetcher: Fetcher | None = None,
    ) -> None:
        self.settings = settings
        self.issuer = TokenIssuer(settings, clock=clock, monotonic=monotonic, fetcher=fetcher)
        self._redirect_uri = redirect_uri

    async def login_url(self, attempt: Attempt) -> str:
        """Return where the browser goes to log in.

        Raises:
            Unreachable: The provider cannot be asked.
        """
        place = await self.issuer.endpoint("authorization_endpoint")
        query = dict(one.split("=", 1) for one in self.settings.parameters) | {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": challenge_of(attempt.verifier),
            "code_challenge_method": "S256",
        }
        return f"{place}{'&' if '?' in place else '?'}{urlencode(query)}"

    async def answered(self, query: Mapping[str, str], attempt: Attempt) -> Vouched:
        """Take what the provider sends the browser back with.

        Raises:
            Refused: It is of another provider, or not good.
            Unreachable: The provider gives no usable answer.
        """
        await self._check_issuer(query.get("iss"))
        if "error" in query or not query.get("code"):
            raise Refused("ISSUER_REFUSED", "the issuer did not let you in: log in again")
        return await self._exchange(query["code"], attempt)

    async def _check_issuer(self, said: str | None) -> None:
        """Compare the parameter iss, RFC 9207, which may lack only where it is never sent."""
        document = await self.issuer.document()
        always = document.get("authorization_response_iss_parameter_supported") is True
        if said != self.settings.issuer and (said is not None or always):
            raise Refused("MIXED_UP_ISSUER", "the answer is of another issuer: log in again")

    async def _exchange(self, code: str, attempt: Attempt) -> Vouched:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": attempt.verifier,
        }
        answer = await self._ask(form)
        if answer.status != 200:
            raise Refused("CODE_REFUSED", "the issuer does not take its own code: log in again")
        token = _text(answer.body, "id_token", id_token.LONGEST_TOKEN)
        if not token:
            raise Refused("NO_ID_TOKEN", "the issuer gave no ID token")
        claims = await self._verified(token, attempt.nonce)
        access_token = _text(answer.body, "access_token", _LONGEST_SECRET)
        id_token.check_access_token(claims, id_token.header_of(token).algorithm, access_token)
        return Vouched(person_of(claims, self.settings), _refresh_token(answer.body))

    async def ask_again(self, refresh_token: str, subject: str) -> Renewed:
        """Ask whether the person is still one of the provider's, and in which groups.

        Args:
            refresh_token: what the provider gave for it.
            subject: whose it is.

        Raises:
            Ended: Not any more.
            Refused: The answer is not good: somebody else's, or with groups that are too many.
            Unreachable: Nothing can be said of it.
        """
        answer = await self._ask({"grant_type": "refresh_token", "refresh_token": refresh_token})
        if 400 <= answer.status < 500 and answer.body.get("error") in _OVER:
            raise Ended("ISSUER_ENDED", "the issuer ended it")
        if answer.status != 200:
            raise Unreachable(f"the issuer {self.settings.name} answers {answer.status}")
        token = _text(answer.body, "id_token", id_token.LONGEST_TOKEN)
        claims = await (self._verified(token, None) if token else self._user_info(answer.body))
        if subject_of(claims) != subject:
            raise Refused("OTHER_SUBJECT", "the issuer answers for somebody else")
        following = _refresh_token(answer.body) or refresh_token
        return Renewed(groups_of(claims, self.settings), following)

    async def _verified(self, token: str, nonce: str | None) -> dict[str, Any]:
        expected = Expected(self.settings.issuer, self.settings.client_id, nonce=nonce)
        return await self.issuer.verify(token, expected)

    async def _user_info(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """OpenID Connect Core section 12.2: a refresh may come without an ID token."""
        place = await self.issuer.endpoint("userinfo_endpoint")
        token = _text(body, "access_token", _LONGEST_SECRET)
        if not token:
            raise Unreachable(f"the issuer {self.settings.name} gave no token at a refresh")
        return await self.issuer.fetcher.get(place, token=token)

    async def _ask(self, form: Mapping[str, str]) -> Answer:
        place = await self.issuer.endpoint("token_endpoint")
        client, secret = self.settings.client_id, self.settings.client_secret
        if not secret:
            return await self._post(place, {**form, "client_id": client}, None)
        if await self._takes_secrets_in_the_form():
            sent = {**form, "client_id": client, "client_secret": secret}
            return await self._post(place, sent, None)
        return await self._post(place, form, (quote(client, safe=""), quote(secret, safe="")))

    async def _post(
        self, place: str, form: Mapping[str, str], password: tuple[str, str] | None
    ) -> Answer:
        answer = await self.issuer.fetcher.post(place, form, password=password)
        if answer.body.get("error") in ("invalid_client", "unauthorized_client"):
            raise Unreachable(
                f"the issuer {self.settings.name} does not take central's client_id and "
                "client_secret: see the settings"
            )
        if answer.status >= 500 or answer.status == 429 or not answer.body:
            raise Unreachable(f"the issuer {self.settings.name} answers {answer.status}")
        return answer

    async def _takes_secrets_in_the_form(self) -> bool:
        """Only where it does not take HTTP Basic, which all must, RFC 6749 section 2.3.1."""
        ways = (await self.issuer.document()).get("token_endpoint_auth_methods_supported")
        listed = ways if isinstance(ways, list) else []
        return "client_secret_post" in listed and "client_secret_basic" not in listed


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier, RFC 7636 section 4.2."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _refresh_token(body: Mapping[str, Any]) -> str:
    return _text(body, "refresh_token", _LONGEST_SECRET)


def _text(body: Mapping[str, Any], name: str, longest: int) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        return ""
    if len(value) > longest:
        raise Refused("ISSUER_ANSWER", f"the issuer's {name} is longer than {longest} bytes")
    return value
