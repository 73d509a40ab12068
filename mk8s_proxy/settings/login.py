"""Who vouches for people and jobs: the `login:` section, and what of it cannot work.

A part of :mod:`mk8s_proxy.settings.model`; read by the identity room and the login's endpoints.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

MOST_ISSUERS = 32
"""Of each of the two lists."""
MOST_RULES = 500
"""Rules of one issuer: each group of each login is compared with all of them."""
TAKEN_NAMES = frozenset({"system", "mk8s", "federated"})
"""Prefixes that have a meaning in groups already."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749 section 3.3."""
_PARAMETER = re.compile(r"([a-z][a-z0-9_.-]{0,63})=([!-~][ -~]{0,255})")
_OWN_PARAMETERS = frozenset(
    {
        "client_id", "client_secret", "code_challenge", "code_challenge_method", "nonce",
        "redirect_uri", "request", "request_uri", "response_mode", "response_type", "scope",
        "state",
    }
)  # fmt: skip
"""What central says itself, or what would replace it (OpenID Connect Core, 3.1.2.1 and 6)."""
_NEVER_IMPERSONATED = ("system:", "mk8s:")


@dataclass(frozen=True, slots=True)
class GroupRule:
    """Which values of a claim become groups, and what these are called."""

    match: str = "*"
    """A value, or a pattern with one "*" for any characters, at least one. The first rule that
    matches a value decides; a value that none matches is left out."""
    to: str = "*"
    """The group's name behind the issuer's and ":"; its "*" is what the "*" of `match` stood
    for."""
    claim: str = ""
    """The claim, where it is another one than `groups_claim`."""


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An OpenID provider that people log in by."""

    name: str
    """What it is called here, and the prefix of its groups: of "acme", the group devs is
    "acme:devs"."""
    issuer: str
    """Its issuer URL, exactly as its tokens say it; discovery is below it."""
    client_id: str
    """What central is called there."""
    client_secret: str = field(default="", repr=False)
    """Central's password there; without one it is a public client, protected by PKCE."""
    title: str = ""
    """What people see on the page of a login; by default the name."""
    scopes: tuple[str, ...] = ("openid", "email", "profile", "offline_access")
    """What is asked for. offline_access is how most give a refresh token, by which central asks
    again at each refresh."""
    parameters: tuple[str, ...] = ()
    """What else the browser is sent there with, such as "prompt=consent" for a provider that gives
    no refresh token without it, or "access_type=offline" for Google."""
    user_claim: str = "email"
    """The claim that names the user. Any other one than email must be one that only the provider
    can change."""
    trust_email: bool = False
    """Take `email` without `email_verified`: only where nobody can choose an address there."""
    groups_claim: str = "groups"
    """The claim that lists the groups; a.b is b inside of a where there is no claim a.b. "" for
    none."""
    groups: tuple[GroupRule, ...] = ()
    """Which of them count, and how they are called; without rules, all of them as they are."""
    ca_file: Path | None = None
    """PEM of the CA of its certificate, where it is none of the system's."""
    allow_http: bool = False
    """Take an `http://` issuer on a loopback address: for development only."""

    @property
    def shown(self) -> str:
        """What people see."""
        return self.title or self.name


@dataclass(frozen=True, slots=True)
class FederationSettings:
    """An issuer of tokens that jobs have, such as that of a CI service or of a cluster."""

    name: str
    """What rules call it."""
    issuer: str
    """Its issuer URL, exactly as its tokens say it."""
    audience: str
    """What its tokens must be made for."""
    ca_file: Path | None = None
    """PEM of the CA of its certificate, where it is none of the system's."""
    jwks_file: Path | None = None
    """Its public keys, where central cannot fetch them."""
    allow_http: bool = False
    """Take an `http://` issuer on a loopback address: for development only."""


IdentitySource: TypeAlias = IssuerSettings | FederationSettings


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """How people and jobs log in."""

    passwords: bool = True
    """Whether people may log in with a password that central keeps. Off where single sign-on is
    the only way."""
    impersonate_groups: tuple[str, ...] = ()
    """Groups that go into the clusters with the requests of their members, for the clusters' own
    RBAC: names such as "acme:devs", or patterns as "acme:*"."""
    issuers: tuple[IssuerSettings, ...] = ()
    """OpenID providers of people. In the environment, a list in JSON."""
    federation: tuple[FederationSettings, ...] = ()
    """Issuers of tokens of jobs. In the environment, a list in JSON."""

    @property
    def sources(self) -> tuple[IdentitySource, ...]:
        """Whose tokens are believed."""
        return (*self.issuers, *self.federation)

    def problems(self) -> list[str]:
        """What cannot work, each one line."""
        return [
            *_list_problems("login.issuers", self.issuers),
            *_list_problems("login.federation", self.federation),
            *_group_problems(self.impersonate_groups),
            *(line for it in self.issuers for line in _issuer_problems(it)),
            *self._no_way_in(),
        ]

    def _no_way_in(self) -> Iterator[str]:
        if not self.passwords and not self.issuers:
            yield "login.passwords: off, but login.issuers names no other way in: nobody could"


def _list_problems(place: str, sources: Iterable[IdentitySource]) -> Iterator[str]:
    listed = tuple(sources)
    if len(listed) > MOST_ISSUERS:
        yield f"{place}: at most {MOST_ISSUERS}"
    names: set[str] = set()
    for source in listed:
        if not _NAME.fullmatch(source.name):
            yield f'{place}: "{source.name}" is not a name of a-z, 0-9 and "-"'
        elif source.name in TAKEN_NAMES:
            yield f'{place}: "{source.name}" has a meaning already: choose another name'
        elif source.name in names:
            yield f'{place}: "{source.name}" is there twice'
        names.add(source.name)
        if problem := _url_problem(source.issuer, allow_http=source.allow_http):
            yield f"{place}: {source.name}: issuer: {problem}"


def _url_problem(url: str, *, allow_http: bool) -> str:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f'"{url}" is not a URL'
    if not host or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        return f'"{url}" is not like https://sso.example.com'
    if "@" in parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url:
        return "leave out a user, a query and a fragment"
    if parts.scheme == "https" or (parts.scheme == "http" and allow_http and is_loopback(host)):
        return ""
    return f'"{url}" must begin with https:// (allow_http takes http:// on a loopback address)'


def is_loopback(host: str) -> bool:
    """Whether it is an address of this machine alone, by number or as localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _issuer_problems(issuer: IssuerSettings) -> Iterator[str]:
    place = f"login.issuers: {issuer.name}"
    if "openid" not in issuer.scopes:
        yield f"{place}: scopes: openid must be one of them"
    for scope in issuer.scopes:
        if not _SCOPE.fullmatch(scope):
            yield f'{place}: scopes: "{scope}" is no scope'
    yield from _parameter_problems(place, issuer.parameters)
    if not issuer.client_id or not issuer.user_claim:
        yield f"{place}: client_id and user_claim must not be empty"
    if not issuer.shown.isprintable():
        yield f"{place}: title: must be one line of text"
    if len(issuer.groups) > MOST_RULES:
        yield f"{place}: groups: at most {MOST_RULES} rules"
    for rule in issuer.groups:
        if problem := _rule_problem(rule, issuer):
            yield f"{place}: groups: {problem}"


def _parameter_problems(place: str, parameters: Iterable[str]) -> Iterator[str]:
    for parameter in parameters:
        written = _PARAMETER.fullmatch(parameter)
        if written is None or written[1] in _OWN_PARAMETERS:
            yield f'{place}: parameters: "{parameter}" is not like prompt=consent, or is not free'


def _rule_problem(rule: GroupRule, issuer: IssuerSettings) -> str:
    if not (rule.claim or issuer.groups_claim):
        return "a rule without a claim, where groups_claim is empty"
    if rule.match.count("*") > 1 or rule.to.count("*") > 1:
        return f'"{rule.match}" to "{rule.to}": at most one "*" in each'
    if "*" in rule.to and "*" not in rule.match:
        return f'"{rule.to}" has a "*", but "{rule.match}" has none'
    if not (rule.match and rule.to and rule.to.isprintable() and rule.to == rule.to.strip()):
        return f'"{rule.match}" to "{rule.to}": both must be text'
    return ""


def _group_problems(patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        if pattern.casefold().startswith(_NEVER_IMPERSONATED):
            yield f'login.impersonate_groups: "{pattern}": never groups of Kubernetes or mk8s'
