"""`kubectl --as`: a person acts as another user, if a role of mk8s says so. Called by the chain.

The client's Impersonate-* headers become an `Identity` of their own, behind which the real one
stands: from then on the request is decided, cached, sent and written down like one of the other
user, and the real user travels along in `ORIGINAL_USER`. The headers apply whole or the request is
refused (403): none is ever ignored, and none reaches a cluster as it came.

Who may act as whom is the `impersonate: {users, groups}` of a rule. A user must be named and
allowed; every group must be allowed too, but for the two that everybody has. A uid and extra values
come with an allowed user and need no rule. Names that begin with `system:` are never acted as: the
agent refuses them as well. Nor are groups that begin with `mk8s:`: those of roles are rights, and
come with the roles of the other user alone. A group of an issuer that is asked for goes to the
cluster, and gives none of the roles that mk8s gives to it: nobody proved to be in it.
"""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import unquote

from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.messages import forbidden_message, refusal_details
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.identity.identity import OWN_PREFIX, RESERVED_PREFIX, USERS_GROUP, Identity
from mk8s_proxy.kube.status import forbidden
from mk8s_proxy.listener.header_names import MAX_IMPERSONATION
from mk8s_proxy.listener.refusals import HeaderRefusal

ORIGINAL_USER: Final = "mk8s.io/original-user"
"""The extra key under which a cluster learns who really asks."""

AUTHENTICATED_GROUP: Final = "system:authenticated"
"""What the API server gives to everybody who is not anonymous, and the agent always sends."""

MAX_NAME_BYTES: Final = 256
MAX_EXTRA_BYTES: Final = 1024
"""The agent's limits (`mk8s_agent.apiserver.impersonation`)."""

_USER: Final = b"impersonate-user"
_UID: Final = b"impersonate-uid"
_GROUP: Final = b"impersonate-group"
_EXTRA: Final = b"impersonate-extra-"
_EVERYBODYS_GROUPS: Final = frozenset({USERS_GROUP, AUTHENTICATED_GROUP})
_OWN_DOMAINS: Final = ("mk8s.io", "k8s.io", "kubernetes.io")
_ESCAPED_KEY: Final = re.compile(rb"(?:[a-z0-9!$&'*+.^`|~-]|%[0-9a-f]{2})+")
_KEY: Final = re.compile(r"[a-z0-9!$&'*+.^`|~_/:@-]{1,128}", re.ASCII)

Fields = tuple[tuple[bytes, bytes], ...]


def act(policy: PolicySnapshot, identity: Identity, fields: Fields, cluster: str) -> Identity:
    """The identity that a client's Impersonate headers name, if its own may act as it.

    Raises:
        HeaderRefusal: headers that mean nothing, or somebody whom nobody may act as.
        StatusError: 403, it may not.
    """
    acting = act_as(identity, fields)
    attributes, decision = may_act(policy, acting, cluster)
    if not decision.allowed:
        message = forbidden_message(identity.user, cluster, attributes, decision)
        raise forbidden(message, refusal_details(attributes))
    return acting


def act_as(identity: Identity, fields: Fields) -> Identity:
    """The identity that the headers ask for, not yet allowed.

    Args:
        identity: the person of the token.
        fields: all Impersonate-* headers of the request, with lower-case names.

    Raises:
        HeaderRefusal: headers that mean nothing, or somebody whom nobody may act as.
    """
    if len(fields) > MAX_IMPERSONATION:
        raise HeaderRefusal("IMPERSONATION_HEADER", fields[MAX_IMPERSONATION][0])
    single: dict[bytes, str] = {}
    groups: list[str] = [USERS_GROUP]
    extra: dict[str, tuple[str, ...]] = {}
    for name, value in fields:
        if name in (_USER, _UID):
            if name in single:
                raise HeaderRefusal("IMPERSONATION_HEADER", name)
            single[name] = _text(name, value)
        elif name == _GROUP:
            groups.append(_not_reserved(_text(name, value), name))
        else:
            key = _extra_key(name)
            extra[key] = (*extra.get(key, ()), _text(name, value, MAX_EXTRA_BYTES))
    if _USER not in single:
        raise HeaderRefusal("IMPERSONATION_USER")
    return replace(
        identity,
        user=_user(single[_USER]),
        uid=single.get(_UID, ""),
        groups=tuple(dict.fromkeys(groups)),
        extra={**extra, ORIGINAL_USER: (identity.user,)},
        original=identity,
        name="",
    )


def may_act(policy: PolicySnapshot, acting: Identity, cluster: str) -> tuple[Attributes, Decision]:
    """Whether the real user may act so: the first denied question, or the last allowed one."""
    original = acting.original
    assert original is not None
    answer = (Attributes("impersonate", resource="users", name=acting.user), Decision())
    for attributes in _questions(acting):
        decision = policy.decide(
            original.user, original.groups, cluster, attributes, narrowing=original.narrowing
        )
        answer = (attributes, decision)
        if not decision.allowed:
            break
    return answer


def _questions(acting: Identity) -> list[Attributes]:
    """What must be allowed, as Kubernetes asks it (apiserver `filters/impersonation.go`)."""
    groups = [group for group in acting.groups if group not in _EVERYBODYS_GROUPS]
    return [
        Attributes("impersonate", resource="users", name=acting.user),
        *(Attributes("impersonate", resource="groups", name=group) for group in groups),
    ]


def _text(name: bytes, value: bytes, longest: int = MAX_NAME_BYTES) -> str:
    """The value as text that stays one header and equal to itself for every parser."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise HeaderRefusal("IMPERSONATION_HEADER", name) from None
    if not text or len(value) > longest or not text.isprintable() or text != text.strip():
        raise HeaderRefusal("IMPERSONATION_HEADER", name)
    return text


def _user(user: str) -> str:
    """Policy knows users by their email in lower case; another spelling must not dodge a rule."""
    if user != user.lower():
        raise HeaderRefusal("IMPERSONATION_CASE", _USER)
    return _not_reserved(user, _USER)


def _not_reserved(text: str, header: bytes) -> str:
    everybodys = header == _GROUP and text in _EVERYBODYS_GROUPS
    if text.casefold().startswith((RESERVED_PREFIX, OWN_PREFIX)) and not everybodys:
        raise HeaderRefusal("IMPERSONATION_RESERVED", header)
    return text


def _extra_key(name: bytes) -> str:
    """The key of an Impersonate-Extra- header, unescaped as the API server does it."""
    escaped = name.removeprefix(_EXTRA)
    if escaped == name or not _ESCAPED_KEY.fullmatch(escaped):
        raise HeaderRefusal("IMPERSONATION_HEADER", name)
    key = unquote(escaped.decode("ascii"), errors="replace")
    if not _KEY.fullmatch(key):
        raise HeaderRefusal("IMPERSONATION_HEADER", name)
    domain = key.partition("/")[0]
    if domain in _OWN_DOMAINS or domain.endswith(tuple("." + own for own in _OWN_DOMAINS)):
        raise HeaderRefusal("IMPERSONATION_RESERVED", name)
    return key
