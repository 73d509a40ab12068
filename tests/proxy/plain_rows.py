"""What an audit row says, stated plainly: a dict for each stage, to compare decoded rows with."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.redaction import redact_tokens, redact_uri

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXT, REASON, URI, REFUSED_URI, GROUPS = 512, 2048, 8192, 2048, 64


def intent_row(entry: AuditEntry, now: float) -> dict[str, Any]:
    """The row of a request that is about to be sent: there is no answer yet."""
    return row_of(replace(entry, upstream_audit_id=""), now)


def row_of(entry: AuditEntry, now: float) -> dict[str, Any]:
    """What both rows of a request say."""
    facts = entry.facts
    row: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": entry.audit_id,
        "stage": "RequestReceived",
        "requestURI": redact_uri(facts.request_uri[: uri_limit(facts)]),
        "verb": facts.verb[:TEXT],
        "user": user(facts.user, facts.uid, facts.groups),
        "userAgent": facts.user_agent[:TEXT],
        "sourceIPs": [entry.source_ip[:TEXT]],
        "requestReceivedTimestamp": micro_time(entry.received),
        "stageTimestamp": micro_time(now),
        "annotations": annotations(entry),
    }
    if other := facts.impersonated:
        extra = {key: [text[:TEXT] for text in texts] for key, texts in other.extra.items()}
        row["impersonatedUser"] = user(other.user, other.uid, other.groups) | {"extra": extra}
    if facts.resource:
        reference = {
            "resource": facts.resource,
            "namespace": facts.namespace,
            "name": redact_tokens(facts.name),
            "apiGroup": facts.api_group,
            "apiVersion": facts.api_version,
            "subresource": facts.subresource,
        }
        row["objectRef"] = {key: text[:TEXT] for key, text in reference.items() if text}
    decoded: dict[str, Any] = without_surrogates(row)
    return decoded


def outcome_row(entry: AuditEntry, now: float) -> dict[str, Any]:
    """The row of how a request ended."""
    row = row_of(entry, now) | {"stage": "ResponseComplete"}
    row["responseStatus"] = {"metadata": {}, "code": entry.code}
    if entry.code >= 400:
        row["responseStatus"]["status"] = "Failure"
    row["annotations"] |= {
        "mk8s.io/bytes-in": str(entry.bytes_in),
        "mk8s.io/bytes-out": str(entry.bytes_out),
        "mk8s.io/duration-ms": f"{entry.duration * 1000:.3f}",
    }
    if entry.refusal:
        row["annotations"]["mk8s.io/refusal"] = without_surrogates(entry.refusal[:TEXT])
    return row


def uri_limit(facts: AuditFacts) -> int:
    return URI if facts.decision == "allow" else REFUSED_URI


def user(name: str, uid: str, groups: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"username": name[:TEXT]}
    if uid:
        found["uid"] = uid[:TEXT]
    if groups:
        found["groups"] = [group[:TEXT] for group in groups[:GROUPS]]
    return found


def annotations(entry: AuditEntry) -> dict[str, str]:
    facts = entry.facts
    notes = {
        "authorization.k8s.io/decision": facts.decision,
        "authorization.k8s.io/reason": redact_tokens(facts.reason[:REASON]),
        "mk8s.io/cluster": facts.cluster[:TEXT],
        "mk8s.io/method": facts.method[:TEXT],
        "mk8s.io/token-id": facts.token_id[:TEXT],
        "mk8s.io/client-audit-id": facts.client_audit_id[:TEXT],
        "mk8s.io/parent-audit-id": entry.parent_audit_id[:TEXT],
        "mk8s.io/upstream-audit-id": entry.upstream_audit_id[:TEXT],
    }
    kept = {key: text for key, text in notes.items() if text}
    if names := truncated(entry):
        kept["mk8s.io/truncated"] = ",".join(names)
    return kept


def truncated(entry: AuditEntry) -> list[str]:
    """What was too long for the row, in the order in which it is said."""
    facts = entry.facts
    of_object = {
        "resource": facts.resource, "namespace": facts.namespace,
        "name": redact_tokens(facts.name), "apiGroup": facts.api_group,
        "apiVersion": facts.api_version, "subresource": facts.subresource,
    }  # fmt: skip
    names = [name for name, text in of_object.items() if facts.resource and len(text) > TEXT]
    if len(facts.verb) > TEXT:
        names.insert(0, "verb")
    if len(facts.request_uri) > uri_limit(facts):
        names.insert(0, "requestURI")
    names += cut_of_user(facts.user, facts.uid, facts.groups)
    texts = {
        "userAgent": facts.user_agent, "tokenID": facts.token_id,
        "cluster": facts.cluster, "method": facts.method,
        "clientAuditID": facts.client_audit_id,
    }  # fmt: skip
    found = [name for name, text in texts.items() if len(text) > TEXT]
    if len(facts.reason) > REASON:
        found.insert(sum(name in ("userAgent", "tokenID") for name in found), "reason")
    names += found
    if other := facts.impersonated:
        names += cut_of_user(other.user, other.uid, other.groups)
        names += [
            "extra" for key, values in other.extra.items() if max(map(len, (key, *values))) > TEXT
        ]
    ends = {"upstreamAuditID": entry.upstream_audit_id, "sourceIPs": entry.source_ip}
    return names + [name for name, text in ends.items() if len(text) > TEXT]


def cut_of_user(name: str, uid: str, groups: tuple[str, ...]) -> list[str]:
    names = [key for key, text in (("user", name), ("uid", uid)) if len(text) > TEXT]
    if len(groups) > GROUPS or any(len(group) > TEXT for group in groups):
        names.append("groups")
    return names


def micro_time(moment: float) -> str:
    """RFC 3339 with microseconds that are cut, not rounded."""
    time = EPOCH + timedelta(microseconds=int(moment * 1_000_000))
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    return value
