"""Bodies and queries of single sign-on. Read by `sso`, `device` and `identities`."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mk8s_proxy.api.schemas import Model

LONGEST_HOST = 64
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]):([0-9]{1,5})/callback", re.ASCII)
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._/-]")


def _loopback(value: str) -> str:
    found = _LOOPBACK.fullmatch(value)
    if found is None or not 0 < int(found[1]) < 65536:
        raise ValueError("must be http://127.0.0.1:PORT/callback or http://[::1]:PORT/callback")
    return value


def _subject(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be the claim sub: printable, without spaces around it")
    return value


def plain_name(value: str) -> str:
    """A name that a stranger chose, without anything that could be a sentence."""
    return _NOT_A_NAME.sub("_", value[:LONGEST_HOST])


RedirectUri = Annotated[str, Field(max_length=64), AfterValidator(_loopback)]
IssuerName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9-]+$")]
Challenge = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]


class IssuerMethod(Model):
    """A provider that people log in by."""

    name: str
    title: str


class FederationMethod(Model):
    """An issuer of tokens of jobs."""

    name: str
    audience: Annotated[str, Field(description="what its tokens must be made for")]


class AuthMethods(Model):
    """How one may log in here."""

    passwords: bool
    issuers: list[IssuerMethod]
    device: Annotated[bool, Field(description="whether a code can be confirmed elsewhere")]
    federation: list[FederationMethod]


class SsoStartQuery(Model):
    """A login that a program on the browser's machine begins."""

    issuer: IssuerName
    redirect_uri: Annotated[
        RedirectUri, Field(description="where the program listens, on a loopback address")
    ]
    state: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._~-]{16,128}$",
            description="random; the answer has it, too",
        ),
    ]
    code_challenge: Annotated[Challenge, Field(description="RFC 7636, of a random verifier")]
    code_challenge_method: Literal["S256"]


class SsoTokenRequest(Model):
    """The code that the browser brought, and what proves whose it is."""

    code: Annotated[str, Field(max_length=128, repr=False)]
    code_verifier: Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]{43,128}$", repr=False)]
    redirect_uri: RedirectUri


class DeviceRequest(Model):
    """A machine that wants to log in without a browser, RFC 8628."""

    host: Annotated[
        str,
        Field(min_length=1, max_length=253, description="what the machine is called, for people"),
    ]
    issuer: IssuerName | None = None


class DeviceResponse(Model):
    """What to show, and how often to ask (RFC 8628, section 3.2)."""

    device_code: Annotated[str, Field(repr=False)]
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class DeviceTokenRequest(Model):
    """The code of a machine that waits."""

    device_code: Annotated[str, Field(max_length=128, repr=False)]


class UserIdentity(Model):
    """That an issuer's subject is a user."""

    issuer: str
    subject: Annotated[
        str, Field(description='"" for whoever proves the email address at the next login')
    ]
    last_used: datetime


class UserIdentityList(Model):
    """All of a user."""

    identities: list[UserIdentity]


class UnlinkQuery(Model):
    """Whose word does not count for a user any more."""

    issuer: IssuerName


class LinkRequest(Model):
    """Whom an issuer means by a user."""

    issuer: IssuerName

    subject: Annotated[
        str,
        Field(
            max_length=255,
            description="claim sub; by default whoever proves the user's email address at the "
            "next login",
        ),
        AfterValidator(_subject),
    ] = ""
