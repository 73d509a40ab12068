"""Who a token is about, and in which groups, by the rules of the settings; pure.

Called by `provider` with claims whose signature is good. They are still not trusted to be of any
type or length: a name becomes a header, a log field and a user of Kubernetes. Nothing is cut or
left out silently: who has too many groups is told so.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mk8s_proxy.identity.identity import (
    MOST_GROUP_BYTES,
    MOST_GROUPS,
    is_issuers_group,
    is_safe_user_name,
)
from mk8s_proxy.identity.oidc.errors import Refused
from mk8s_proxy.settings.login import GroupRule, IssuerSettings

MOST_VALUES: Final = 10_000
"""Of one claim: so many are compared with the rules."""
LONGEST_SUBJECT: Final = 255
"""OpenID Connect Core section 2."""
_LONGEST_TEXT: Final = LONGEST_SUBJECT
_LONGEST_USER: Final = 254
_SHOWN: Final = ("sub", "email", "preferred_username", "name")
"""Claims that lists of logins may show."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who logs in, as the issuer says."""

    subject: str
    """What the issuer never gives to anybody else."""
    user: str
    """The user name, in small letters."""
    name: str
    groups: tuple[str, ...]
    """As policy knows them, sorted."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """Short texts for people to read."""


def person_of(claims: Mapping[str, Any], issuer: IssuerSettings) -> Person:
    """Read the claims by the issuer's rules.

    Raises:
        Refused: A claim is missing, unusable or not verified, or there are too many groups.
    """
    return Person(
        subject=subject_of(claims),
        user=_user(claims, issuer),
        name=_text(claims.get("name")),
        groups=groups_of(claims, issuer),
        shown={name: text for name in _SHOWN if (text := _text(claims.get(name)))},
    )


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return whom the token is about.

    Raises:
        Refused: It is nobody.
    """
    subject = claims.get("sub")
    if (
        not isinstance(subject, str)
        or not subject
        or not subject.isprintable()
        or subject != subject.strip()
        or len(subject.encode("utf-8", "surrogatepass")) > LONGEST_SUBJECT
    ):
        raise Refused("CLAIM_SUBJECT", "the issuer's token names nobody that can be known (sub)")
    return subject


def groups_of(claims: Mapping[str, Any], issuer: IssuerSettings) -> tuple[str, ...]:
    """Return the groups that the rules choose, with the issuer's prefix, sorted.

    Raises:
        Refused: A claim is no list of texts, a group cannot be a name, or there are too many.
    """
    rules = issuer.groups or (GroupRule(),)
    by_claim: dict[str, list[GroupRule]] = {}
    for rule in rules:
        if claim := rule.claim or issuer.groups_claim:
            by_claim.setdefault(claim, []).append(rule)
    found: set[str] = set()
    for claim, its_rules in by_claim.items():
        chosen = _Chooser(its_rules)
        for value in _values(claims, claim):
            found.update(f"{issuer.name}:{name}" for name in chosen.names(value))
    groups = tuple(sorted(found))
    _check_groups(groups)
    return groups


class _Chooser:
    """The rules of one claim: those without a "*" are found at once, the others in their order."""

    def __init__(self, rules: Iterable[GroupRule]) -> None:
        self._whole: dict[str, tuple[int, str]] = {}
        self._patterns: list[tuple[int, str, str, str]] = []
        for place, rule in enumerate(rules):
            before, star, behind = rule.match.partition("*")
            if star:
                self._patterns.append((place, before, behind, rule.to))
            else:
                self._whole.setdefault(rule.match, (place, rule.to))

    def names(self, value: str) -> Iterator[str]:
        """Give the name that the first rule makes of a value, if one matches."""
        place, name = self._whole.get(value, (len(self._patterns) + len(self._whole), ""))
        for earlier, before, behind, to in self._patterns:
            if earlier > place and name:
                break
            inner = _between(value, before, behind)
            if inner is not None:
                name = to.replace("*", inner)
                break
        if name:
            yield name


def _between(value: str, before: str, behind: str) -> str | None:
    fits = value.startswith(before) and value.endswith(behind)
    if not fits or len(value) <= len(before) + len(behind):
        return None
    return value[len(before) : len(value) - len(behind)]


def claim_of(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim by its name, or else by its way: a.b is b inside of a. None for none."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _values(claims: Mapping[str, Any], name: str) -> list[str]:
    elsewhere = claims.get("_claim_names")
    if isinstance(elsewhere, Mapping) and name in elsewhere:  # OpenID Connect Core section 5.6.2
        raise Refused(
            "GROUPS_ELSEWHERE",
            f'the issuer has too many groups to send them in "{name}": let it send only those that '
            "are assigned to mk8s",
        )
    value = claim_of(claims, name)
    values = [value] if isinstance(value, str) else value
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(it, str) for it in values):
        raise Refused("CLAIM_GROUPS", f'the issuer\'s claim "{name}" is no list of texts')
    if len(values) > MOST_VALUES:
        raise _too_many(f'more than {MOST_VALUES} values in "{name}"')
    return values


def _check_groups(groups: tuple[str, ...]) -> None:
    for group in groups:
        if not is_issuers_group(group):
            raise Refused(
                "CLAIM_GROUPS",
                f"the issuer's group {group[:80]!a} cannot be a group's name: leave it out by "
                "a rule (login.issuers: groups)",
            )
    if len(groups) > MOST_GROUPS:
        raise _too_many(f"{len(groups)} groups, of at most {MOST_GROUPS}")
    size = sum(len(group.encode()) for group in groups)
    if size > MOST_GROUP_BYTES:
        raise _too_many(f"{len(groups)} groups of {size} bytes, of at most {MOST_GROUP_BYTES}")


def _too_many(said: str) -> Refused:
    return Refused(
        "TOO_MANY_GROUPS",
        f"the issuer names {said}: ask an administrator to choose those that count by rules "
        "(login.issuers: groups)",
    )


def _user(claims: Mapping[str, Any], issuer: IssuerSettings) -> str:
    value = claim_of(claims, issuer.user_claim)
    if not isinstance(value, str) or not value:
        raise Refused("CLAIM_USER", f'the issuer\'s token has no claim "{issuer.user_claim}"')
    if issuer.user_claim == "email" and not (
        issuer.trust_email or claims.get("email_verified") is True
    ):
        raise Refused(
            "EMAIL_UNVERIFIED",
            "the issuer has not verified your email address: confirm it there, then log in again",
        )
    user = value.lower()
    if not _is_users(value) or not is_safe_user_name(user):
        raise Refused("CLAIM_USER", f"the issuer's \"{issuer.user_claim}\" cannot be a user's name")
    return user


def _is_users(value: str) -> bool:
    """No name of ours for something else (token:NAME), nor one that only looks like another: small
    letters of a few foreign capitals are plain ASCII."""
    plain = value.isascii() or (
        value == value.lower() and value == unicodedata.normalize("NFKC", value)
    )
    return plain and ":" not in value and len(value) <= _LONGEST_USER


def _text(value: object) -> str:
    """A text for people to read, "" where it is none or cannot be shown."""
    good = isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_TEXT
    return str(value) if good else ""
