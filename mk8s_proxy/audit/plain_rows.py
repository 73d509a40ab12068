"""Audit rows, made the plain way: a dict for each, then its JSON. Says what a row is.

`mk8s_proxy.audit.rows` makes the rows of everyday requests faster and hands the odd ones to this
module: with text that is long, or not ASCII, or with an impersonated user. Pure.
"""

import json
import re
from typing import Any, Final

import orjson

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.redaction import redact_uri
from mk8s_proxy.audit.timestamps import timestamp

MAX_TEXT: Final = 512
"""Characters of a name, an address, a user agent or an id before it is cut."""
MAX_REASON: Final = 2048
"""Characters of a reason."""
MAX_URI: Final = 8192
"""Characters of a request URI: `kubectl exec` puts its command there."""
MAX_GROUPS: Final = 64
"""Groups of a user that are written down."""
FIRST_FAILURE: Final = 400
"""Status codes from here on are failures."""

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def encode_intent(entry: AuditEntry, now: float) -> bytes:
    """The RequestReceived row: one line of ASCII with its line feed.

    Args:
        entry: of a request that is about to be sent to a cluster.
        now: seconds since the epoch.
    """
    return _encode(_row(entry, "RequestReceived", now))


def encode_outcome(entry: AuditEntry, now: float) -> bytes:
    """The ResponseComplete row: one line of ASCII with its line feed.

    Args:
        entry: of a request that ended, or that was refused.
        now: seconds since the epoch.
    """
    row = _row(entry, "ResponseComplete", now)
    status: dict[str, Any] = {"metadata": {}, "code": entry.code}
    if entry.code >= FIRST_FAILURE:
        status["status"] = "Failure"
    row["responseStatus"] = status
    notes = row["annotations"]
    notes["mk8s.io/bytes-in"] = str(entry.bytes_in)
    notes["mk8s.io/bytes-out"] = str(entry.bytes_out)
    notes["mk8s.io/duration-ms"] = "%.3f" % (entry.duration * 1000)
    if entry.refusal:
        notes["mk8s.io/refusal"] = entry.refusal
    return _encode(row)


def _row(entry: AuditEntry, stage: str, now: float) -> dict[str, Any]:
    """What both rows of a request share."""
    cut: list[str] = []
    facts = entry.facts
    row: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": entry.audit_id,
        "stage": stage,
        "requestURI": redact_uri(_fit(facts.request_uri, "requestURI", cut, MAX_URI)),
        "verb": _fit(facts.verb, "verb", cut),
        "user": _user(facts.user, facts.uid, facts.groups, cut),
        "userAgent": _fit(facts.user_agent, "userAgent", cut),
        "sourceIPs": [_fit(entry.source_ip, "sourceIPs", cut)],
        "requestReceivedTimestamp": timestamp(entry.received),
        "stageTimestamp": timestamp(now),
    }
    if (other := facts.impersonated) is not None:
        row["impersonatedUser"] = _user(other.user, other.uid, other.groups, cut)
        row["impersonatedUser"]["extra"] = {
            key: [_fit(value, "extra", cut) for value in values]
            for key, values in other.extra.items()
        }
    if facts.resource:
        row["objectRef"] = _object_ref(facts, cut)
    row["annotations"] = _annotations(entry, cut)
    return row


def _user(name: str, uid: str, groups: tuple[str, ...], cut: list[str]) -> dict[str, Any]:
    user: dict[str, Any] = {"username": _fit(name, "user", cut)}
    if uid:
        user["uid"] = _fit(uid, "uid", cut)
    if groups:
        if len(groups) > MAX_GROUPS:
            groups = groups[:MAX_GROUPS]
            cut.append("groups")
        user["groups"] = [_fit(group, "groups", cut) for group in groups]
    return user


def _object_ref(facts: AuditFacts, cut: list[str]) -> dict[str, str]:
    ref = {"resource": _fit(facts.resource, "resource", cut)}
    if facts.namespace:
        ref["namespace"] = _fit(facts.namespace, "namespace", cut)
    if facts.name:
        ref["name"] = _fit(facts.name, "name", cut)
    if facts.api_group:
        ref["apiGroup"] = _fit(facts.api_group, "apiGroup", cut)
    if facts.api_version:
        ref["apiVersion"] = _fit(facts.api_version, "apiVersion", cut)
    if facts.subresource:
        ref["subresource"] = _fit(facts.subresource, "subresource", cut)
    return ref


def _annotations(entry: AuditEntry, cut: list[str]) -> dict[str, str]:
    facts = entry.facts
    notes = {"authorization.k8s.io/decision": facts.decision}
    if facts.reason:
        notes["authorization.k8s.io/reason"] = _fit(facts.reason, "reason", cut, MAX_REASON)
    if facts.cluster:
        notes["mk8s.io/cluster"] = _fit(facts.cluster, "cluster", cut)
    if facts.method:
        notes["mk8s.io/method"] = _fit(facts.method, "method", cut)
    if facts.token_id:
        notes["mk8s.io/token-id"] = _fit(facts.token_id, "tokenID", cut)
    if facts.client_audit_id:
        notes["mk8s.io/client-audit-id"] = _fit(facts.client_audit_id, "clientAuditID", cut)
    if entry.parent_audit_id:
        notes["mk8s.io/parent-audit-id"] = entry.parent_audit_id
    if entry.upstream_audit_id:
        notes["mk8s.io/upstream-audit-id"] = _fit(entry.upstream_audit_id, "upstreamAuditID", cut)
    if cut:
        notes["mk8s.io/truncated"] = ",".join(dict.fromkeys(cut))
    return notes


def _fit(text: str, name: str, cut: list[str], limit: int = MAX_TEXT) -> str:
    if len(text) <= limit:
        return text
    cut.append(name)
    return text[:limit]


def _encode(row: dict[str, Any]) -> bytes:
    """One line of printable ASCII: nothing a stranger sent can end it or turn a terminal around."""
    try:
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except orjson.JSONEncodeError:  # a lone surrogate
        return _encode_ascii(row)
    # orjson escapes what is below U+0020 and leaves DEL and everything over U+007F as it is.
    if line.isascii() and b"\x7f" not in line:
        return line
    return _encode_ascii(row)


def _encode_ascii(row: dict[str, Any]) -> bytes:
    text = json.dumps(_without_surrogates(row), ensure_ascii=True, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _without_surrogates(value: Any) -> Any:
    """`value` with U+FFFD for what no decoder of UTF-8 would accept; keys are ours."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {key: _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value
