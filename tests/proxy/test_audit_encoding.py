"""Audit rows: the fields of audit.k8s.io/v1, hostile strings; all of it as `plain_rows` states."""

import gc
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mk8s_proxy.audit import rows
from mk8s_proxy.audit.event import AuditEntry, AuditFacts, ImpersonatedUser
from mk8s_proxy.audit.identifier import AuditId, new_audit_id
from mk8s_proxy.audit.rows import (
    MAX_GROUPS,
    MAX_REASON,
    MAX_TEXT,
    MAX_URI,
    encode_intent,
    encode_outcome,
    texts_of,
)
from tests.proxy.plain_rows import intent_row, outcome_row

ID = AuditId("0199f0a1-7c3e-7abc-8def-0123456789ab")
RECEIVED = 1_790_000_000.25
TEXT_FIELDS = (
    "user", "uid", "token_id", "cluster", "method", "verb", "request_uri", "api_group",
    "api_version", "namespace", "resource", "subresource", "name", "source_ip", "user_agent",
    "reason", "refusal", "upstream_audit_id", "client_audit_id", "parent_audit_id",
)  # fmt: skip


ENTRY_FIELDS = ("source_ip", "refusal", "upstream_audit_id", "parent_audit_id")
"""What a request does not share with equal ones."""
UNCUT = ("refusal", "parent_audit_id")
"""Made by ourselves."""


def deployment_scale() -> AuditEntry:
    return AuditEntry(
        audit_id=ID,
        received=RECEIVED,
        facts=AuditFacts(
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
            user_agent="kubectl/v1.33.1",
            decision="allow",
            reason="role developer, rule 2",
            client_audit_id="mine",
        ),
        source_ip="192.0.2.10",
        code=200,
        bytes_in=12,
        bytes_out=345,
        duration=0.0125,
        upstream_audit_id="up-1",
        parent_audit_id="whole",
    )


def changed(entry: AuditEntry, name: str, value: Any) -> None:
    """Sets a field of an entry, wherever it is."""
    if name in ENTRY_FIELDS:
        setattr(entry, name, value)
    else:
        entry.facts = entry.facts._replace(**{name: value})


def decoded(line: bytes) -> dict[str, Any]:
    row: dict[str, Any] = orjson.loads(line)
    return row


def test_the_two_rows_of_a_request() -> None:
    entry = deployment_scale()
    shared = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": ID,
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
        "mk8s.io/parent-audit-id": "whole",
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
    row = decoded(encode_outcome(AuditEntry(ID, RECEIVED), RECEIVED))
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert row["user"] == {"username": ""}
    assert "objectRef" not in row


def test_a_refusal_carries_its_code() -> None:
    entry = AuditEntry(
        ID, RECEIVED, facts=AuditFacts(reason="no %2F"), refusal="ENC_SLASH", code=400
    )
    row = decoded(encode_outcome(entry, RECEIVED))
    assert row["responseStatus"] == {"metadata": {}, "code": 400, "status": "Failure"}
    assert row["annotations"]["mk8s.io/refusal"] == "ENC_SLASH"


def test_a_cluster_scoped_core_object_has_only_what_it_has() -> None:
    entry = AuditEntry(ID, RECEIVED, facts=AuditFacts(resource="nodes"))
    assert decoded(encode_outcome(entry, RECEIVED))["objectRef"] == {"resource": "nodes"}


def test_what_changed_after_the_intent_stands_in_the_outcome() -> None:
    entry = deployment_scale()
    encode_intent(entry, RECEIVED)
    changed(entry, "decision", "forbid")
    entry.refusal, entry.code = "AUDIT_UNAVAILABLE", 503
    notes = decoded(encode_outcome(entry, RECEIVED))["annotations"]
    assert notes["authorization.k8s.io/decision"] == "forbid"
    assert notes["mk8s.io/refusal"] == "AUDIT_UNAVAILABLE"


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
    entry = AuditEntry(ID, RECEIVED, facts=AuditFacts(groups=(text, "b")))
    for name in TEXT_FIELDS:
        changed(entry, name, text)
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
        assert assert_one_harmless_line(line)["auditID"] == ID


@pytest.mark.parametrize("name", [name for name in TEXT_FIELDS if name not in UNCUT])
def test_endless_text_is_cut(name: str) -> None:
    limit = {"request_uri": MAX_URI, "reason": MAX_REASON}.get(name, MAX_TEXT)
    entry = deployment_scale()
    changed(entry, name, "x" * (limit * 40))
    line = encode_outcome(entry, RECEIVED)
    assert b"x" * limit in line
    assert b"x" * (limit + 1) not in line
    assert decoded(line)["annotations"]["mk8s.io/truncated"]
    changed(entry, name, "x" * limit)
    assert "mk8s.io/truncated" not in decoded(encode_outcome(entry, RECEIVED))["annotations"]


def test_too_many_groups_are_cut_once() -> None:
    groups = tuple("y" * (MAX_TEXT + 1) for _ in range(1000))
    entry = AuditEntry(ID, RECEIVED, facts=AuditFacts(groups=groups))
    row = decoded(encode_intent(entry, RECEIVED))
    assert row["user"]["groups"] == ["y" * MAX_TEXT] * MAX_GROUPS
    assert row["annotations"]["mk8s.io/truncated"] == "groups"


# --- rows are what is stated ---

PLAIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
QUOTED = st.sampled_from(
    ["", '"', "\\", '\\"}', "\x00", "\n", "\t\x1f", "/a?token=hush&b", "{}", "%"]
)
STRANGE = st.sampled_from([*HOSTILE, "\x7f", "\xe9", "\ud800"])
LONG = st.builds(
    lambda size, letter: letter * size,
    st.sampled_from([n + d for n in (MAX_TEXT, MAX_REASON, MAX_URI) for d in (-1, 0, 1)]),
    st.sampled_from(["x", "\x7f", "/a?token=", "?token=ab&"]),
)
EVERYDAY = PLAIN | QUOTED
ANYTHING = EVERYDAY | STRANGE | LONG | st.text(st.characters(), max_size=8)
GROUPS = (
    st.lists(ANYTHING, max_size=3)
    | st.builds(lambda text, count: [text] * count, PLAIN | LONG, st.integers(60, 70))
).map(tuple)
IMPERSONATED = st.builds(
    ImpersonatedUser,
    ANYTHING,
    ANYTHING,
    GROUPS,
    st.dictionaries(st.sampled_from(["a", "b"]), st.lists(ANYTHING, max_size=2).map(tuple)),
)
COUNTS = st.integers(0, 2**63 - 1)
MOMENTS = st.floats(0, 4_000_000_000)


@st.composite
def entries(draw: st.DrawFn, odd: st.SearchStrategy[str]) -> AuditEntry:
    """An everyday entry of which up to two texts are `odd`."""
    facts = AuditFacts(groups=draw(st.lists(EVERYDAY).map(tuple)))
    entry = AuditEntry(new_audit_id(), draw(MOMENTS), facts=facts)
    for name in TEXT_FIELDS:
        changed(entry, name, draw(EVERYDAY))
    for name in draw(st.lists(st.sampled_from(TEXT_FIELDS), max_size=2)):
        changed(entry, name, draw(odd))
    changed(entry, "decision", draw(st.sampled_from(["allow", "forbid"])))
    if draw(st.booleans()):
        entry.texts = texts_of(entry.facts)
    entry.code = draw(st.integers(0, 599))
    entry.bytes_in, entry.bytes_out = draw(COUNTS), draw(COUNTS)
    entry.duration = draw(st.floats(0, 1e6) | st.floats(allow_nan=True))
    if draw(st.booleans()):
        entry.upstream_audit_id = entry.audit_id
    return entry


def assert_rows_are_plain(entry: AuditEntry, now: float) -> None:
    assert assert_one_harmless_line(encode_intent(entry, now)) == intent_row(entry, now)
    assert assert_one_harmless_line(encode_outcome(entry, now)) == outcome_row(entry, now)


@given(entry=entries(EVERYDAY), now=MOMENTS)
@example(entry=AuditEntry(ID, 0.0), now=0.0)
def test_everyday_rows_are_plain_rows(entry: AuditEntry, now: float) -> None:
    assert_rows_are_plain(entry, now)


@given(entry=entries(ANYTHING), now=MOMENTS, groups=GROUPS, other=st.none() | IMPERSONATED)
def test_odd_rows_are_plain_rows(
    entry: AuditEntry, now: float, groups: tuple[str, ...], other: ImpersonatedUser | None
) -> None:
    entry.facts = entry.facts._replace(groups=groups, impersonated=other)
    assert_rows_are_plain(entry, now)


@given(
    entry=entries(EVERYDAY),
    changes=st.lists(st.tuples(st.sampled_from(TEXT_FIELDS), ANYTHING), max_size=5),
    now=MOMENTS,
)
def test_whatever_changes_is_seen(
    entry: AuditEntry, changes: list[tuple[str, str]], now: float
) -> None:
    encode_intent(entry, now)
    for name, text in changes:
        changed(entry, name, text)
        assert_rows_are_plain(entry, now)


def test_long_extra_of_an_impersonated_user_is_cut() -> None:
    other = ImpersonatedUser("u", "", (), {"a": ("x" * (MAX_TEXT + 1), "y")})
    entry = AuditEntry(ID, RECEIVED, facts=AuditFacts(impersonated=other))
    assert not texts_of(entry.facts).short
    row = decoded(encode_intent(entry, RECEIVED))
    assert row["impersonatedUser"]["extra"] == {"a": ["x" * MAX_TEXT, "y"]}
    assert row["annotations"]["mk8s.io/truncated"] == "extra"


# --- what is remembered ---

PIECES: tuple[Any, ...] = (rows._requests, rows._callers, rows._verdicts)


def forget() -> None:
    for piece in PIECES:
        piece.clear()


def test_memory_exhaustion_by_ever_new_text() -> None:
    for number in range(rows._CALLERS + 100):
        text = f"new-{number}"
        facts = AuditFacts(text, text, user_agent=text)
        encode_outcome(AuditEntry(ID, 0.0, text, facts), 0.0)
    most = [rows._REMEMBERED, rows._CALLERS, rows._REMEMBERED]
    assert all(0 < len(piece) <= bound for piece, bound in zip(PIECES, most, strict=True))


@pytest.mark.parametrize("name", ["request_uri", "name", "user_agent", "user", "reason", "method"])
def test_memory_exhaustion_by_long_text(name: str) -> None:
    forget()
    entry = AuditEntry(ID, 0.0, facts=AuditFacts(resource="pods"))
    for number in range(10):
        changed(entry, name, f"{number}" * (MAX_TEXT + 1))
        encode_outcome(entry, 0.0)
    assert sum(map(len, PIECES)) < 3


def test_memory_exhaustion_by_many_long_groups() -> None:
    forget()
    entry = AuditEntry(ID, 0.0, facts=AuditFacts(groups=("x" * 100,) * (MAX_GROUPS - 1)))
    assert_rows_are_plain(entry, 0.0)
    assert len(rows._callers) == 0


def test_an_open_watch_holds_no_row() -> None:
    entry = deployment_scale()
    before = list(map(id, gc.get_referents(entry)))
    encode_intent(entry, RECEIVED)
    assert list(map(id, gc.get_referents(entry))) == before
