"""Workload federation: which tokens of jobs a rule lets in, and what such a job is called. Pure.

Called by the API with claims whose signature is good. A rule names claims, each with globs of which
one must match. Anybody can have a token of a public issuer that is made for our audience, so a rule
must bind its job to an owner (`check_claims`): a claim that only the owner's jobs have, with a glob
that ends no earlier than the owner's name does. A claim inside of another one is named by its way,
`kubernetes.io/namespace`.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from mk8s_proxy.identity.identity import LONGEST_NAME_BYTES

USER_PREFIX: Final = "federated:"
"""How the names of jobs begin in policy, audit and clusters. Users' are email addresses: no name of
a job has an "@", which would make it one."""
GROUP_PREFIX: Final = "federated:"
"""How the groups begin that rules are."""

LONGEST_TOKEN: Final = 16 << 10
"""Of a job; the longest real ones have some 3,000 bytes."""
MOST_CLAIMS: Final = 20
MOST_GLOBS: Final = 50
"""Of one claim of a rule."""
LONGEST_TEXT: Final = 512
_LONGEST_SUBJECT: Final = 160
_SAFE: Final = "!$&'()*+,;=:/-._~"
_NAMESPACE: Final = uuid.UUID("5c1f6f0e-30d4-4a6b-9d0c-7a2f7f0f9b61")

_EXACT: Final = frozenset(
    {
        "repository_id", "repository_owner", "repository_owner_id",  # GitHub
        "project_id", "namespace_id",  # GitLab
        "kubernetes.io/namespace", "kubernetes.io/serviceaccount/uid",
    }
)  # fmt: skip
"""Claims that name an owner, or what is an owner's alone: a glob of them would be others' too."""
_PATHS: Final = frozenset({"repository", "project_path", "namespace_path"})
"""Paths that begin with the owner: acme/*."""
_SUBJECT: Final = "sub"
_BINDING: Final = (
    "repository or repository_owner (GitHub), project_path or namespace_path (GitLab), "
    "kubernetes.io/namespace (Kubernetes), or sub"
)
_WHOLE: Final = re.compile(r"\*+")
_PARTS: Final = re.compile(r"[:/]")

Claims = Mapping[str, Sequence[str]]


class RuleRefused(ValueError):
    """The rule would let in others than it seems to. The message says what to do."""


def check_claims(claims: Claims) -> None:
    """Check the claims of a rule before it is stored.

    Raises:
        RuleRefused: Nothing binds it to an owner, a glob matches everything, or it is no rule.
    """
    if len(claims) > MOST_CLAIMS:
        raise RuleRefused(f"at most {MOST_CLAIMS} claims")
    for name, globs in claims.items():
        _check_globs(name, globs)
    if not any(_binds(name, globs) for name, globs in claims.items()):
        raise RuleRefused(
            "nothing binds this rule to an owner, so that jobs of strangers would match it: name "
            f"{_BINDING}, with the owner before any *, as in acme/*"
        )


def _check_globs(name: str, globs: Sequence[str]) -> None:
    if not name or len(name) > LONGEST_TEXT or not name.isprintable():
        raise RuleRefused("a claim's name must be printable text")
    if not 1 <= len(globs) <= MOST_GLOBS:
        raise RuleRefused(f"{name}: give 1 to {MOST_GLOBS} values")
    for glob in globs:
        if not glob or len(glob) > LONGEST_TEXT or not glob.isprintable():
            raise RuleRefused(f"{name}: a value must be printable text")
        if _WHOLE.fullmatch(glob):
            raise RuleRefused(f'{name}: "{glob}" matches everything: leave the claim out')


def _binds(name: str, globs: Sequence[str]) -> bool:
    """Whether all that a claim may be belongs to an owner who is named."""
    if name in _EXACT:
        return not any("*" in glob for glob in globs)
    if name in _PATHS:
        return all("*" not in glob or _parts_before_star(glob) >= 1 for glob in globs)
    return name == _SUBJECT and all(map(_is_bound_subject, globs))


def _is_bound_subject(glob: str) -> bool:
    """`repo:acme/*` names an owner, `repo:*` none; of a ServiceAccount that is the namespace."""
    needed = 3 if glob.startswith("system:serviceaccount:") else 2
    return "*" not in glob or _parts_before_star(glob) >= needed


def _parts_before_star(glob: str) -> int:
    """How many parts are whole before the first `*`: what is not ended by "/" or ":" goes on."""
    *whole, _ = _PARTS.split(glob.partition("*")[0])
    return len(whole) if all(whole) else 0


def matches(rule: Claims, claims: Mapping[str, Any]) -> bool:
    """Say whether a token's claims are as a rule wants them: of each claim, one glob matches."""
    return all(_matches(globs, _texts(claim_of(claims, name))) for name, globs in rule.items())


def _matches(globs: Sequence[str], values: Sequence[str]) -> bool:
    return any(_fits(glob, value) for value in values for glob in globs)


def _fits(glob: str, value: str) -> bool:
    """Without a regular expression: each piece is found once, from the left."""
    first, *pieces = glob.split("*")
    if not pieces:
        return value == glob
    *middle, last = pieces
    if len(value) < len(first) + len(last):
        return False
    if not (value.startswith(first) and value.endswith(last)):
        return False
    place, end = len(first), len(value) - len(last)
    for piece in middle:
        found = value.find(piece, place, end)
        if found < 0:
            return False
        place = found + len(piece)
    return True


def claim_of(claims: Mapping[str, Any], name: str) -> object:
    """Return a claim by its name, or else by its way: a/b is b inside of a. None for none."""
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("/"):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _texts(value: object) -> list[str]:
    """What a claim says, as texts; of a list, each of its texts."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, int):
        return [str(value)]
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def user_of(issuer: str, subject: str) -> str:
    """What policy, audit and clusters call a job: `federated:ISSUER:SUBJECT`.

    What could not stand in a header or would look like something else is escaped as in URLs; of a
    subject that is too long, the beginning and a digest of it all.
    """
    safe = quote(subject, safe=_SAFE)
    if len(safe) > _LONGEST_SUBJECT:
        digest = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        safe = f"{safe[: _LONGEST_SUBJECT - 33]}~{digest}"
    name = f"{USER_PREFIX}{issuer}:{safe}"
    assert len(name) <= LONGEST_NAME_BYTES
    return name


def uid_of(issuer: str, subject: str) -> str:
    """The id of a job, which has no row: the same for the same subject."""
    return str(uuid.uuid5(_NAMESPACE, f"{issuer}\n{subject}"))


def is_federated_user(user: str) -> bool:
    """Say whether a user's name is that of a job, and no odd email address."""
    return user.startswith(USER_PREFIX) and "@" not in user
