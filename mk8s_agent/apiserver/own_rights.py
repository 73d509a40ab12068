"""What the cluster lets everybody do who comes through mk8s, and as whom the agent may act.

Asked by ``mk8s_agent.agent`` every minute, told to central by the control stream. Both answers are
the API server's own, so they hold whatever made them so: RBAC, a webhook, a privileged kubeconfig.

* Each person has the group ``mk8s:users``. Where that may do everything, Kubernetes refuses nobody
  to hand on what they do not have (the verbs ``bind`` and ``escalate`` are its checks), and central
  must be stricter. So a user that nobody is, with just the groups that everybody has, asks what
  they may do.
* ``mk8s:role:<role>``, or a group that an issuer names, may go along only where RBAC lets the agent
  act with it: a group that it may not name would cost the person the whole request.
"""

import logging
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson

from mk8s_agent.apiserver.impersonation import MARKER_GROUP
from mk8s_agent.apiserver.own_requests import ApiServerUnreachable, request_as_agent
from mk8s_agent.credentials.sources import ApiServerCredentials
from mk8s_agent.wire.control import BOUNDED, UNBOUNDED, UNKNOWN
from mk8s_agent.wire.group_names import (
    ANY_GROUP,
    MAX_OTHER_GROUP_BYTES,
    MAX_OTHER_GROUPS,
    MAX_ROLE_GROUPS,
    ROLE_GROUP,
    is_other_group,
)

PROBE_USER: Final = "mk8s:probe"
"""Nobody: central's people are called by their email address."""

_CREATED: Final = 201
_MAY_PASS: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Answers of an API server that could say more a moment later."""

_RBAC: Final = "rbac.authorization.k8s.io"
QUESTIONS: Final = (
    {"verb": "*", "group": "*", "resource": "*"},
    {"verb": "escalate", "group": _RBAC, "resource": "clusterroles"},
    {"verb": "bind", "group": _RBAC, "resource": "clusterroles"},
    {"verb": "approve", "group": "certificates.k8s.io", "resource": "signers"},
    {
        "verb": "create",
        "group": "admissionregistration.k8s.io",
        "resource": "mutatingwebhookconfigurations",
    },
)
"""Everything, and the ways by which something less becomes everything."""

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/"
_AS_NOBODY: Final = {"Impersonate-User": PROBE_USER, "Impersonate-Group": MARKER_GROUP}
"""The API server adds `system:authenticated` itself, as it does for people."""

log = logging.getLogger(__name__)


class Rights(NamedTuple):
    """The members of `control.Register` of the same names."""

    users_group: str
    role_groups: tuple[str, ...]
    other_groups: tuple[str, ...] = ()


async def ask_rights(credentials: ApiServerCredentials) -> Rights:
    """Ask the API server for both.

    Raises:
        ApiServerUnreachable: it cannot be asked now; what it said before still counts.
    """
    return Rights(await _users_group(credentials), *await _groups(credentials))


async def _users_group(credentials: ApiServerCredentials) -> str:
    for question in QUESTIONS:
        spec = {"resourceAttributes": question}
        answer = await _review(credentials, "SelfSubjectAccessReview", spec, _AS_NOBODY)
        allowed = answer.get("allowed") if answer is not None else None
        if not isinstance(allowed, bool):
            return UNKNOWN
        if allowed:
            return UNBOUNDED
    return BOUNDED


async def _groups(
    credentials: ApiServerCredentials,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of roles, and the others."""
    answer = await _review(credentials, "SelfSubjectRulesReview", {"namespace": "default"}, {})
    try:
        found = set(_impersonated((answer or {}).get("resourceRules") or []))
    except (AttributeError, KeyError, TypeError):
        return (), ()
    if ANY_GROUP in found:
        return (ANY_GROUP,), ()
    groups = sorted(one for one in found if ROLE_GROUP.fullmatch(one))
    if len(groups) > MAX_ROLE_GROUPS:
        told = {"groups": len(groups), "limit": MAX_ROLE_GROUPS}
        log.warning("rights.too_many_role_groups", extra=told)
    return tuple(groups[:MAX_ROLE_GROUPS]), _others(found)


def _others(found: set[str]) -> tuple[str, ...]:
    """Those of them that issuers may name, as many as a message of the control stream holds."""
    groups = sorted(one for one in found if isinstance(one, str) and is_other_group(one))
    kept, size = [], 0
    for group in groups[:MAX_OTHER_GROUPS]:
        size += len(group.encode())
        if size <= MAX_OTHER_GROUP_BYTES:
            kept.append(group)
    if len(kept) < len(groups):
        told = {"groups": len(groups), "limit": MAX_OTHER_GROUPS, "bytes": MAX_OTHER_GROUP_BYTES}
        log.warning("rights.too_many_other_groups", extra=told)
    return tuple(kept)


def _impersonated(rules: list[dict[str, Any]]) -> Iterator[str]:
    """The groups that rules let the agent act with, `ANY_GROUP` where they name none.

    Kubernetes has two ways (KEP-5284); a rule counts for the one that it is written for.
    """
    for rule in rules:
        verbs, groups = set(rule["verbs"]), set(rule.get("apiGroups") or ())
        plain = verbs & {"impersonate", "*"} and groups & {"", "*"}
        constrained = verbs & {"impersonate:user-info", "*"}
        constrained = constrained and groups & {"authentication.k8s.io", "*"}
        if (plain or constrained) and {"groups", "*"} & set(rule.get("resources") or ()):
            yield from rule.get("resourceNames") or (ANY_GROUP,)


async def _review(
    credentials: ApiServerCredentials, kind: str, spec: dict[str, Any], headers: dict[str, str]
) -> dict[str, Any] | None:
    """The status of a review; None where the API server does not say it to this agent."""
    review = {"kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": spec}
    target = f"{_REVIEWS}{kind.lower()}s"
    sent = {"Content-Type": "application/json", **headers}
    status, content = await request_as_agent(
        credentials, "POST", target, orjson.dumps(review), sent
    )
    if status in _MAY_PASS:
        raise ApiServerUnreachable(f"the API server answers {status} to a {kind}")
    if status != _CREATED:
        return None
    try:
        told = orjson.loads(content)["status"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return told if isinstance(told, dict) else None
