"""Audit rows: the fields of audit.k8s.io/v1, hostile strings, and ids that only grow."""

import os
import subprocess
import sys
import textwrap
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.audit.event import (
    MAX_GROUPS,
    MAX_REASON,
    MAX_TEXT,
    MAX_URI,
    AuditEntry,
    encode_intent,
    encode_outcome,
    new_audit_id,
    redact_uri,
)
from mk8s_proxy.audit.identifier import AuditIds
from mk8s_proxy.audit.redaction import REDACTED, SECRET_PARAMETERS

RECEIVED = 1_790_000_000.25
TEXT_FIELDS = (
    "user", "uid", "token_id", "cluster", "method", "verb", "request_uri", "api_group",
    "api_version", "namespace", "resource", "subresource", "name", "source_ip", "user_agent",
    "reason", "refusal", "upstream_audit_id", "client_audit_id",
)  # fmt: skip


def deployment_scale() -> AuditEntry:
    return AuditEntry(
        audit_id="0199f0a1-7c3e-7abc-8def-0123456789ab",
        received=RECEIVED,
        user="dev@example.com",
        uid="u-1",
        groups=("mk8s:users",),
        token_id="t-1",
        cluster="prod",
        method="PATCH",
        verb="patch",
        request_uri="/apis/apps/v1/namespaces/shop/deployments/web/scale?token=hush",
        api_group="apps",
        api_version="v1",
        namespace="shop",
        resource="deployments",
        subresource="scale",
        name="web",
        source_ip="192.0.2.10",
        user_agent="kubectl/v1.33.1",
        decision="allow",
        reason="role developer, rule 2",
        code=200,
        bytes_in=12,
        bytes_out=345,
        duration=0.0125,
        upstream_audit_id="up-1",
        client_audit_id="mine",
    )


def decoded(line: bytes) -> dict[str, Any]:
    row: dict[str, Any] = orjson.loads(line)
    return row


def test_the_two_rows_of_a_request() -> None:
    entry = deployment_scale()
    shared = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "0199f0a1-7c3e-7abc-8def-0123456789ab",
        "requestURI": "/apis/apps/v1/namespaces/shop/deployments/web/scale?token=REDACTED",
        "verb": "patch",
        "user": {"username": "dev@example.com", "uid": "u-1", "groups": ["mk8s:users"]},
        "sourceIPs": ["192.0.2.10"],
        "userAgent": "kubectl/v1.33.1",
        "requestReceivedTimestamp": "2026-09-21T14:13:20.250000Z",
        "objectRef": {
            "resource": "deployments",
            "namespace": "shop",
            "name": "web",
            "apiGroup": "apps",
            "apiVersion": "v1",
            "subresource": "scale",
        },
    }
    annotations = {
        "authorization.k8s.io/decision": "allow",
        "authorization.k8s.io/reason": "role developer, rule 2",
        "mk8s.io/cluster": "prod",
        "mk8s.io/method": "PATCH",
        "mk8s.io/token-id": "t-1",
        "mk8s.io/client-audit-id": "mine",
    }
    entry.upstream_audit_id = ""
    assert decoded(encode_intent(entry, RECEIVED + 0.5)) == shared | {
        "stage": "RequestReceived",
        "stageTimestamp": "2026-09-21T14:13:20.750000Z",
        "annotations": annotations,
    }
    entry.upstream_audit_id = "up-1"
    assert decoded(encode_outcome(entry, RECEIVED + 1)) == shared | {
        "stage": "ResponseComplete",
        "stageTimestamp": "2026-09-21T14:13:21.250000Z",
        "responseStatus": {"metadata": {}, "code": 200},
        "annotations": annotations
        | {
            "mk8s.io/bytes-in": "12",
            "mk8s.io/bytes-out": "345",
            "mk8s.io/duration-ms": "12.500",
            "mk8s.io/upstream-audit-id": "up-1",
        },
    }


def test_an_entry_nobody_filled_in_is_a_refusal() -> None:
    row = decoded(encode_outcome(AuditEntry("id", RECEIVED), RECEIVED))
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert row["user"] == {"username": ""}
    assert "objectRef" not in row


def test_a_refusal_carries_its_code() -> None:
    entry = AuditEntry("id", RECEIVED, refusal="ENC_SLASH", reason="no %2F", code=400)
    row = decoded(encode_outcome(entry, RECEIVED))
    assert row["responseStatus"] == {"metadata": {}, "code": 400, "status": "Failure"}
    assert row["annotations"]["mk8s.io/refusal"] == "ENC_SLASH"


def test_a_cluster_scoped_core_object_has_only_what_it_has() -> None:
    entry = AuditEntry("id", RECEIVED, resource="nodes")
    assert decoded(encode_outcome(entry, RECEIVED))["objectRef"] == {"resource": "nodes"}


def test_what_changed_after_the_intent_stands_in_the_outcome() -> None:
    entry = deployment_scale()
    encode_intent(entry, RECEIVED)
    entry.decision, entry.refusal, entry.code = "forbid", "AUDIT_UNAVAILABLE", 503
    notes = decoded(encode_outcome(entry, RECEIVED))["annotations"]
    assert notes["authorization.k8s.io/decision"] == "forbid"
    assert notes["mk8s.io/refusal"] == "AUDIT_UNAVAILABLE"


def test_timestamps_within_and_across_seconds() -> None:
    entry = AuditEntry("id", 59.999999)
    stamps = [decoded(encode_outcome(entry, at))["stageTimestamp"] for at in (59.5, 59.75, 60, 59)]
    assert stamps == [
        "1970-01-01T00:00:59.500000Z",
        "1970-01-01T00:00:59.750000Z",
        "1970-01-01T00:01:00.000000Z",
        "1970-01-01T00:00:59.000000Z",
    ]


# --- hostile strings ---

HOSTILE = [
    'a"}\n{"kind":"Event"',
    "line\r\nline",
    "\x00\x07\x1b[2J\x7f\x80\x9b",
    "\u2028\u2029\x85\x0b\x0c",
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200f",
    "\U0001f600 ümlaut",
    "\ud800 lone \udfff",
    "\\u202e \\\x7f \\",
]


def filled(text: str) -> AuditEntry:
    entry = AuditEntry("id", RECEIVED, groups=(text, "b"))
    for name in TEXT_FIELDS:
        setattr(entry, name, text)
    return entry


def assert_one_harmless_line(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    return decoded(line)


@pytest.mark.parametrize("text", HOSTILE)
def test_log_forging(text: str) -> None:
    row = assert_one_harmless_line(encode_outcome(filled(text), RECEIVED))
    kept = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert row["userAgent"] == kept
    assert row["user"]["groups"] == [kept, "b"]


@given(text=st.text(st.characters(), max_size=40))
def test_any_text_is_one_line(text: str) -> None:
    entry = filled(text)
    for line in (encode_intent(entry, RECEIVED), encode_outcome(entry, RECEIVED)):
        assert assert_one_harmless_line(line)["auditID"] == "id"


@pytest.mark.parametrize("name", [name for name in TEXT_FIELDS if name != "refusal"])
def test_endless_text_is_cut(name: str) -> None:
    limit = {"request_uri": MAX_URI, "reason": MAX_REASON}.get(name, MAX_TEXT)
    entry = deployment_scale()
    setattr(entry, name, "x" * (limit * 40))
    line = encode_outcome(entry, RECEIVED)
    assert b"x" * limit in line
    assert b"x" * (limit + 1) not in line
    assert decoded(line)["annotations"]["mk8s.io/truncated"]
    setattr(entry, name, "x" * limit)
    assert "mk8s.io/truncated" not in decoded(encode_outcome(entry, RECEIVED))["annotations"]


def test_too_many_groups_are_cut_once() -> None:
    entry = AuditEntry("id", RECEIVED, groups=tuple("y" * (MAX_TEXT + 1) for _ in range(1000)))
    row = decoded(encode_intent(entry, RECEIVED))
    assert row["user"]["groups"] == ["y" * MAX_TEXT] * MAX_GROUPS
    assert row["annotations"]["mk8s.io/truncated"] == "groups"


# --- secrets in URIs ---


@pytest.mark.parametrize("name", sorted(SECRET_PARAMETERS))
def test_a_canary_in_the_query_never_reaches_the_log(name: str) -> None:
    for spelled in (name, name.upper(), f"%{ord(name[0]):02x}{name[1:]}", f"{name}[]", f" {name}+"):
        for template in (
            "/api?%s=canary",
            "/api?a=b&%s=canary&c=d",
            "/api?%s=canary=canary",
            "/api?%s=can;canary",
            "/api?a=b;%s=canary",
            "/api?a?%s=canary",
            "/api#%s=canary",
            "/api?x=1#%s=canary",
        ):
            redacted = redact_uri(template % spelled)
            assert "canary" not in redacted
            assert REDACTED in redacted


@pytest.mark.parametrize(
    "uri",
    [
        "/api/v1/secrets",
        "/api/v1/secrets/token",
        "/api/v1/pods?limit=500",
        "/api/v1/pods?fieldSelector=metadata.name%3Dtoken",
        "/api/v1/namespaces/a/pods/b/exec?command=password&stdin=true",
        "/api?tokens=1&passwords=2&codec=3&decode=4",
        "/api?token",
        "/api?",
        "",
    ],
)
def test_other_uris_stay_as_they_are(uri: str) -> None:
    assert redact_uri(uri) == uri


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_redaction_takes_any_text(before: str, after: str) -> None:
    assert "c4n4ry" not in redact_uri(f"/api?{before}&password=c4n4ry&{after}")


# --- ids ---


def test_ids_are_version_7_and_only_grow() -> None:
    ids = [new_audit_id() for _ in range(5000)]
    assert all(left < right for left, right in pairwise(ids))
    for text in ids[::100]:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, text)


def test_ids_carry_the_time() -> None:
    made = AuditIds(lambda: 1_790_000_000_123_456_789).new()
    assert uuid.UUID(made).int >> 80 == 1_790_000_000_123


def test_ids_grow_while_the_clock_steps_back() -> None:
    moments = iter([5_000_000_000, 4_000_000_000, 5_000_000_000, 5_001_000_000])
    ids = AuditIds(lambda: next(moments))
    made = [ids.new() for _ in range(4)]
    assert made == sorted(set(made))


def test_a_forked_worker_does_not_repeat_its_parents_ids() -> None:
    ids = AuditIds(lambda: 5_000_000_000)
    first = uuid.UUID(ids.new()).int
    ids.forget()
    assert abs(uuid.UUID(ids.new()).int - first) > 1000


FORK = """
    import os
    from mk8s_proxy.audit.event import new_audit_id

    new_audit_id()
    child = os.fork()
    made = [new_audit_id() for _ in range(50)]
    if child:
        os.waitpid(child, 0)
    print("\\n".join(made), flush=True)
"""


def test_forking_is_noticed() -> None:
    checkout = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(checkout)},
    )
    assert len(set(done.stdout.split())) == 100
