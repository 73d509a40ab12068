"""The identity that central names, checked again and turned into `Impersonate-*` headers; no I/O.

Called by ``mk8s_agent.apiserver.pool`` for every request, before the head is written. The
ServiceAccount of the agent may impersonate, so whatever this module lets through is believed by the
API server. It therefore builds the headers from nothing, trusts no check that central has made, and
refuses what it does not understand. Three facts of Kubernetes make that necessary (seen on
kube-apiserver):

* an empty or absent ``Impersonate-User`` means no impersonation: the request runs as the agent;
* the group ``system:masters`` may do everything, and a user ``system:serviceaccount:...`` is that
  ServiceAccount; ``system:authenticated`` is the one name of that kind that every user has;
* the part of ``Impersonate-Extra-<key>`` after the prefix is percent-decoded and lower-cased.
"""

import json
import re
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias

MARKER_GROUP: Final = "mk8s:users"
"""The group that each identity of central carries: proof that a set of groups was really sent."""

ROLE_PREFIX: Final = "mk8s:role:"
"""Groups of the roles that count on the cluster; central gives no other group such a name."""

AUTHENTICATED_GROUP: Final = "system:authenticated"
"""What the API server gives to every user who is not anonymous; added here."""

MAX_NAME_BYTES: Final = 256
MAX_EXTRA_BYTES: Final = 1024
MAX_IDENTITY_BYTES: Final = 32768
"""Half of the header list that a tunnel carries, so that the request's own headers have room."""

_RESERVED_PREFIX: Final = "system:"
_OWN_PREFIX: Final = "mk8s:"
_MEMBERS: Final = frozenset({"user", "uid", "groups", "extra"})
_EXTRA_KEY: Final = re.compile(r"[a-z0-9!$&'*+.^`|~_/:@-]{1,128}", re.ASCII)
_RESERVED_DOMAINS: Final = ("kubernetes.io", "k8s.io")
# Legal in a header name and equal to itself for every parser. "_" is legal too, but some hops take
# it for "-", and "%" is the escape.
_PLAIN_KEY_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-.")

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


class ImpersonationRefused(Exception):
    """The identity that arrived is not one to act as; nothing may be sent to the API server."""


def impersonation_headers(identity_json: bytes) -> Headers:
    """Build the headers for an identity, which is JSON: ``{"user", "uid", "groups", "extra"}``.

    Names of headers are lower-case. There is exactly one ``impersonate-user``; the groups are those
    given, without repetitions, and `AUTHENTICATED_GROUP`.

    Raises:
        ImpersonationRefused: with one sentence, fit for a log and for the answer to the user.
    """
    identity = _parse(identity_json)
    user = _name("user", identity.get("user"))
    uid = identity.get("uid", "")
    headers = [(b"impersonate-user", user.encode())]
    if uid != "":
        headers.append((b"impersonate-uid", _text("uid", uid, MAX_NAME_BYTES).encode()))
    headers += [(b"impersonate-group", group.encode()) for group in _groups(identity.get("groups"))]
    headers += _extra_headers(identity.get("extra", {}))
    return tuple(headers)


def _refuse(sentence: str) -> NoReturn:
    raise ImpersonationRefused(sentence)


def _quoted(value: object) -> str:
    """Show a hostile value in one short line of ASCII."""
    shown = ascii(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        # Two parsers would take different ones.
        _refuse("the identity names a member twice")
    return members


def _parse(identity_json: bytes) -> Mapping[str, object]:
    if len(identity_json) > MAX_IDENTITY_BYTES:
        _refuse(f"the identity is longer than {MAX_IDENTITY_BYTES} bytes")
    try:
        identity = json.loads(identity_json.decode("utf-8"), object_pairs_hook=_members)
    except (ValueError, RecursionError):
        _refuse("the identity is not JSON")
    if not isinstance(identity, dict):
        _refuse("the identity is not a JSON object")
    if not identity.keys() <= _MEMBERS:
        _refuse(f"the identity has an unknown member {_quoted(min(identity.keys() - _MEMBERS))}")
    return identity


def _text(what: str, value: object, longest: int) -> str:
    if not isinstance(value, str) or not value:
        _refuse(f"{what} is empty or not a string")
    # isprintable() knows the space as the only printable separator, and no control, format,
    # surrogate or unassigned character; so UTF-8 of it cannot end a header line.
    if not value.isprintable():
        _refuse(f"{what} {_quoted(value)} has a character that cannot be printed")
    if value != value.strip(" "):
        # HTTP parsers trim values: the name that arrives would be another one.
        _refuse(f"{what} {_quoted(value)} begins or ends with a space")
    if len(value.encode()) > longest:
        _refuse(f"{what} {_quoted(value)} is longer than {longest} bytes")
    return value


def _name(what: str, value: object) -> str:
    name = _text(what, value, MAX_NAME_BYTES)
    if name.casefold().startswith(_RESERVED_PREFIX):
        _refuse(f"{what} {_quoted(name)} is reserved to Kubernetes")
    return name


def _groups(value: object) -> list[str]:
    if not isinstance(value, list):
        _refuse("groups is not a list")
    groups = [_group(group) for group in value if group != AUTHENTICATED_GROUP]
    if MARKER_GROUP not in groups:
        _refuse(f"the group {MARKER_GROUP} is missing")
    return [*dict.fromkeys(groups), AUTHENTICATED_GROUP]


def _group(value: object) -> str:
    group = _name("group", value)
    own = group == MARKER_GROUP or group.removeprefix(ROLE_PREFIX) not in ("", group)
    if group.casefold().startswith(_OWN_PREFIX) and not own:
        _refuse(f"group {_quoted(group)} is reserved to mk8s")
    return group


def _extra_headers(extra: object) -> list[tuple[bytes, bytes]]:
    if not isinstance(extra, dict):
        _refuse("extra is not an object")
    headers = []
    for key, value in extra.items():
        name = b"impersonate-extra-" + _escaped_key(key)
        values = value if isinstance(value, list) else [value]
        headers += [(name, _text("extra", one, MAX_EXTRA_BYTES).encode()) for one in values]
    return headers


def _escaped_key(key: str) -> bytes:
    if not _EXTRA_KEY.fullmatch(key):
        _refuse(f"extra key {_quoted(key)} is not lower-case ASCII")
    domain = key.partition("/")[0]
    if domain in _RESERVED_DOMAINS or domain.endswith(tuple("." + it for it in _RESERVED_DOMAINS)):
        # Such keys are claims of the cluster itself, for example the node of a pod.
        _refuse(f"extra key {_quoted(key)} is reserved to Kubernetes")
    # Escaped in lower case: HTTP/2 refuses a header name with any other letter.
    return b"".join(
        bytes((byte,)) if byte in _PLAIN_KEY_BYTES else b"%%%02x" % byte for byte in key.encode()
    )
