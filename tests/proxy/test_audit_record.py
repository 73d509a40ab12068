"""Records of the audit, made of real rows: one for each request, storable on both databases."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.audit.record import AuditRecord, latest_rows, record_of
from mk8s_proxy.audit.rows import encode_intent, encode_outcome
from mk8s_proxy.audit.unfinished import closing_row

NOON = 1_790_000_000.25


def entry(name: str = "a", code: int = 200, **facts: Any) -> AuditEntry:
    known = {"verb": "get", "resource": "pods", "name": "web", "decision": "allow"}
    made = AuditEntry(AuditId(name), NOON, "192.0.2.1", AuditFacts(**(known | facts)))
    made.code, made.duration = code, 0.0125
    return made


def record(row: bytes) -> AuditRecord:
    return record_of(row, lambda *_: True)


def outcome(code: int = 200, **facts: Any) -> AuditRecord:
    return record(encode_outcome(entry(code=code, **facts), NOON + 1))


def test_an_outcome_has_all_columns() -> None:
    facts = {"user": "dev@example.com", "uid": "u-1", "cluster": "prod", "namespace": "shop"}
    row = encode_outcome(entry(**facts), NOON + 1)
    assert record(row) == AuditRecord(
        audit_id="a",
        stage="ResponseComplete",
        created_at=datetime.fromtimestamp(NOON, UTC),
        user="dev@example.com",
        user_id="u-1",
        cluster="prod",
        command="get pod web -n shop",
        status="success",
        code=200,
        duration_ms=12.5,
        verb="get",
        action="get",
        api_group="",
        resource="pods",
        subresource="",
        namespace="shop",
        name="web",
        denied=False,
        source_ip="192.0.2.1",
        delegate="",
        event=row.decode().rstrip("\n"),
    )


def test_a_request_of_a_delegation_says_so() -> None:
    assert outcome(200, delegate="robot/0198b0c2").delegate == "robot/0198b0c2"
    assert len(outcome(200, delegate="x" * 500).delegate) == 256


@pytest.mark.parametrize(
    ("code", "decision", "status", "denied"),
    [
        (200, "allow", "success", False),
        (101, "allow", "success", False),
        (404, "allow", "failure", False),
        (0, "allow", "failure", False),
        (403, "allow", "denied", True),
        (401, "forbid", "denied", True),
        (503, "forbid", "denied", True),
    ],
)
def test_the_status_is_one_word(code: int, decision: str, status: str, denied: bool) -> None:
    made = outcome(code, decision=decision)
    assert (made.status, made.code, made.denied) == (status, code, denied)


def test_a_request_that_runs_and_one_whose_end_nobody_knows() -> None:
    intent = encode_intent(entry(), NOON)
    assert (record(intent).status, record(intent).stage) == ("running", "RequestReceived")
    closed = record(closing_row(intent, NOON + 5))
    assert (closed.status, closed.stage, closed.audit_id) == ("unknown", "ResponseComplete", "a")


def test_rows_of_the_journal_itself_are_no_failures() -> None:
    facts = {"verb": "reopen", "resource": "journals", "api_group": "mk8s.io", "name": "j"}
    assert outcome(0, **facts).status == "success"


@pytest.mark.parametrize(
    ("verb", "subresource", "action"),
    [("create", "exec", "exec"), ("get", "attach", "exec"), ("get", "log", "logs"),
     ("create", "portforward", "portforward"), ("get", "proxy", "proxy"), ("get", "status", "get")],
)  # fmt: skip
def test_the_action_is_the_verb_that_roles_have(verb: str, subresource: str, action: str) -> None:
    made = outcome(verb=verb, subresource=subresource)
    assert (made.verb, made.action) == (verb, action)


def test_a_path_has_no_object() -> None:
    made = outcome(resource="", name="", request_uri="/healthz")
    assert (made.resource, made.command) == ("", "get --raw /healthz")


def test_attack_text_that_postgresql_refuses_or_has_no_room_for() -> None:
    made = outcome(user="a\x00b" * 300, cluster="c" * 500, namespace="n" * 600, verb="v" * 99)
    assert made.user.startswith("a\\x00b")
    assert [len(it) for it in (made.user, made.cluster, made.namespace, made.verb)] == [
        256, 63, 256, 64,
    ]  # fmt: skip
    assert "\x00" not in "".join(str(it) for it in made)


def test_attack_numbers_out_of_range() -> None:
    row = orjson.loads(encode_outcome(entry(), NOON))
    row["responseStatus"]["code"] = 10**18
    row["annotations"]["mk8s.io/duration-ms"] = "1e300"
    made = record(orjson.dumps(row))
    assert (made.code, made.duration_ms) == (999, 1e12)
    row["annotations"]["mk8s.io/duration-ms"] = "-5"
    assert record(orjson.dumps(row)).duration_ms == 0


@pytest.mark.parametrize(
    "row",
    [b"{", b"[]", b"{}", b'"text"', b'{"user":{},"auditID":"a","verb":"get","sourceIPs":[]}',
     b'{"user":{},"auditID":7,"verb":"get","sourceIPs":["a"],"stage":"x"}',
     "{\u00e9".encode()],
)  # fmt: skip
def test_what_is_no_row_says_so(row: bytes) -> None:
    with pytest.raises(ValueError):
        record(row)


def test_of_two_rows_the_end_counts_in_the_order_of_the_ends() -> None:
    intents = [encode_intent(entry(name), NOON) for name in "abc"]
    end = encode_outcome(entry("a"), NOON + 1)
    latest, strange = latest_rows(b"".join([*intents, end]))
    assert [key.decode() for key in latest] == ["b", "c", "a"]
    assert latest[b"a"] == end.rstrip(b"\n")
    assert strange == 0


def test_a_beginning_that_was_copied_behind_its_end_is_left_out() -> None:
    intent, end = encode_intent(entry(), NOON), encode_outcome(entry(), NOON + 1)
    latest, _ = latest_rows(end + intent)
    assert latest == {b"a": end.rstrip(b"\n")}


def test_lines_that_are_no_rows_are_counted() -> None:
    latest, strange = latest_rows(b"not json\n" + encode_outcome(entry(), NOON) + b"\n{}\n")
    assert (list(latest), strange) == ([b"a"], 3)
