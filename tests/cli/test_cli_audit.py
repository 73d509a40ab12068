"""`mk8s audit`: what is asked of central, and what of its answers reaches a terminal or a file."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mk8s_cli.central import audit
from mk8s_cli.commands import audit as audit_command
from mk8s_cli.terminal.errors import CliError
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import FakeCentral, error

GOOD = "019b2c4e-7a10-7cc1-8a3f-5d2f6a1b0c9d"


def item(**changes: Any) -> dict[str, Any]:
    return {
        "id": GOOD,
        "number": 7,
        "created_at": "2026-01-02T03:04:05.678Z",
        "user": "dev@example.com",
        "user_id": "u-1",
        "cluster": "prod",
        "command": "get pods -n shop",
        "status": "success",
        "code": 200,
        "duration_ms": 12.5,
        "verb": "list",
        "denied": False,
        "event": {"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": GOOD},
    } | changes


def page(*items: dict[str, Any], cursor: str | None = None, newest: int = 7) -> dict[str, Any]:
    return {"audit": list(items), "next_cursor": cursor, "newest": newest}


Answers = Callable[..., list[str]]


@pytest.fixture
def answers(logged_in: Result, central: FakeCentral, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Let central answer with these pages; gives the queries that it gets."""
    queries: list[str] = []
    real = audit.Central.call

    def noted(self: audit.Central, method: str, path: str, *rest: Any, **more: Any) -> Any:
        queries.append(path)
        return real(self, method, path, *rest, **more)

    monkeypatch.setattr(audit.Central, "call", noted)

    def give(*pages: Any) -> list[str]:
        shown = [it if isinstance(it, tuple) else (200, it) for it in pages]
        central.overrides["GET /audit"] = shown
        return queries

    return give


def test_the_table_is_for_people(run: Run, answers: Answers) -> None:
    answers(page(item(), item(status="running", code=0, duration_ms=0, cluster="")))
    first, second, third = run("audit", "list").out.splitlines()
    assert first.split() == ["TIME", "USER", "CLUSTER", "COMMAND", "STATUS", "CODE", "TOOK", "ID"]
    assert "2026-01-02T03:04:05Z   dev@example.com   prod" in second
    assert "get pods -n shop   success   200    12ms" in second
    assert third.split()[2] == "-"
    assert third.split()[-3:] == ["-", "-", GOOD]


def test_the_table_names_a_delegation_beside_its_owner(run: Run, answers: Answers) -> None:
    answers(page(item(delegate="robot/0198b0c2")))
    assert "dev@example.com (robot/0198b0c2)   prod" in run("audit", "list").out


def test_every_option_is_a_parameter(run: Run, answers: Answers) -> None:
    queries = answers(page())
    options = ("--user", "a@b", "--cluster", "prod", "--verb", "exec", "--resource", "pods/log",
               "--namespace", "shop", "--code", "403", "--denied", "--limit", "7",
               "--since", "2026-01-01", "--until", "2026-01-02T00:00:00Z")  # fmt: skip
    result = run("audit", "list", *options)
    assert (result.code, result.line) == (0, "the audit has nothing of that")
    (query,) = queries
    for text in ("user=a%40b", "cluster=prod", "verb=exec", "resource=pods%2Flog", "code=403",
                 "namespace=shop", "denied=true", "limit=7", "until=2026-01-02T00%3A00%3A00Z",
                 "since=20"):  # fmt: skip
        assert text in query
    assert "events" not in query


def test_a_class_of_codes(run: Run, answers: Answers) -> None:
    queries = answers(page(), page())
    run("audit", "list", "--code", "4XX")
    run("audit", "tail", "--code", "5xx")
    assert [query.partition("code=")[2].partition("&")[0] for query in queries] == ["4xx", "5xx"]


def test_what_is_not_asked_for_is_not_sent(run: Run, answers: Answers) -> None:
    queries = answers(page())
    run("audit", "list")
    assert queries == ["/audit?limit=100"]


def test_pages_are_fetched_until_there_is_enough(run: Run, answers: Answers) -> None:
    queries = answers(
        page(*[item()] * 500, cursor="one"),
        page(cursor="two"),
        page(item(), item(), cursor="three"),
    )
    result = run("audit", "list", "--limit", "502", "-o", "json")
    assert len(json.loads(result.out)) == 502
    assert queries == [
        "/audit?limit=500", "/audit?limit=2&cursor=one", "/audit?limit=2&cursor=two",
    ]  # fmt: skip


def test_k8s_events_are_lines_of_json(run: Run, answers: Answers) -> None:
    queries = answers(page(item(), item()))
    lines = run("audit", "list", "-o", "k8s").out.splitlines()
    assert [json.loads(line) for line in lines] == [item()["event"]] * 2
    assert "events=true" in queries[0]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('=HYPERLINK("https://evil","x")', '\'=HYPERLINK("https://evil","x")'),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\t=1", "'\\t=1"),
        ("\r=1", "'\\r=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a\n=1", "a\\n=1"),
        ('a","=1', 'a","=1'),
        ("get pods", "get pods"),
    ],
)
def test_attack_a_command_that_a_spreadsheet_would_run(
    run: Run, answers: Answers, text: str, cell: str
) -> None:
    answers(page(item(command=text, user=text)))
    out = run("audit", "list", "-o", "csv").out
    heading, row = csv.reader(io.StringIO(out))
    shown = dict(zip(heading, row, strict=True))
    assert (shown["command"], shown["user"]) == (cell, cell)
    assert (shown["denied"], shown["duration_ms"], shown["namespace"]) == ("false", "12.5", "")
    assert out.count("\n") == 2


@pytest.mark.parametrize("form", ["table", "json", "csv", "k8s"])
@pytest.mark.parametrize("command", ["list", "tail"])
def test_attack_names_that_drive_the_terminal(
    run: Run, answers: Answers, form: str, command: str
) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202eexe.x\x7f\x9b31m\nfake row"
    answers(page(item(command=evil, user=evil, id=evil, status=evil, event={"verb": evil})))
    out = run("audit", command, "-o", form).out
    assert not {"\x1b", "\x07", "\u202e", "\x7f", "\x9b"} & set(out)
    assert "fake row" not in [line.strip() for line in out.splitlines()]


def test_show_prints_the_whole_row(run: Run, central: FakeCentral, logged_in: Result) -> None:
    path = f"GET /audit/{GOOD}"
    central.overrides[path] = [(200, item())] * 3
    assert yaml.safe_load(run("audit", "show", GOOD).out) == item()
    assert json.loads(run("audit", "show", GOOD, "-o", "json").out) == item()
    assert json.loads(run("audit", "show", GOOD, "-o", "k8s").out) == item()["event"]
    central.overrides[path] = [error(404, 'audit entry "x" does not exist')]
    assert run("audit", "show", GOOD).line == 'mk8s: audit entry "x" does not exist'


def test_tail_ends_with_the_latest(run: Run, answers: Answers) -> None:
    queries = answers(page(item(command="later"), item(command="earlier")), page(item()))
    first, second = run("audit", "tail", "--lines", "2").out.splitlines()
    assert "  earlier  success  200  12ms  " in first
    assert "  later  " in second
    assert queries[0] == "/audit?limit=2"
    assert run("audit", "tail", "--lines", "0").out == ""


def test_following_goes_on_after_an_outage(
    run: Run, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[str] = []

    def sleep(_: float) -> None:
        if queries and "after=9" in queries[-1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(audit_command.time, "sleep", sleep)
    queries = answers(
        page(item(command="first"), newest=3),
        page(item(command="second"), newest=5),
        error(503, "central cannot reach its database: try again"),
        error(503, "central cannot reach its database: try again"),
        error(503, "central cannot reach its database: try again"),
        page(item(command="third"), newest=9),
        page(newest=9),
    )
    result = run("audit", "tail", "-f", "--cluster", "prod")
    assert result.code == 1
    assert [line.split("  ")[3] for line in result.out.splitlines()] == ["first", "second", "third"]
    assert "cannot reach its database: try again; trying again" in result.err
    afters = [query.partition("after=")[2].partition("&")[0] for query in queries]
    assert [it for it in dict.fromkeys(afters) if it] == ["3", "5", "9"]
    assert all("cluster=prod" in query for query in queries)


def test_following_ends_when_it_is_refused(
    run: Run, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_command.time, "sleep", lambda _: None)
    answers(page(), error(403, "no"))
    assert run("audit", "tail", "-f").line == "mk8s: no"


@pytest.mark.parametrize(
    "answer",
    [
        {"audit": 7, "newest": 1},
        {"audit": [7], "newest": 1},
        {"audit": [{}] * 501, "newest": 1},
        {"audit": []},
        {"items": [], "newest": "1"},
        {"audit": [], "newest": 1, "next_cursor": 5},
    ],
)
def test_attack_an_answer_that_is_no_page(run: Run, answers: Answers, answer: Any) -> None:
    answers(answer)
    assert "central's answer is refused" in run("audit", "list").line


def test_attack_an_item_without_its_event(run: Run, answers: Answers) -> None:
    answers(page(item(event=None)))
    assert "has no event" in run("audit", "list", "-o", "k8s").line


@pytest.mark.parametrize("text", ["90x", "", "yesterday", "9" * 40 + "d", "999999d", "0001-01-01"])
def test_a_time_that_is_none_is_told(text: str) -> None:
    with pytest.raises(CliError, match="is no time"):
        audit.moment(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2026-01-31T08:00:00Z", "2026-01-31T08:00:00Z"),
     ("2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00Z")],
)  # fmt: skip
def test_times(text: str, shown: str) -> None:
    assert audit.moment(text) == shown


def test_times_that_are_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier, later = audit.moment("2h"), audit.moment("90m")
    assert earlier < later < audit.moment("0s")


@pytest.mark.parametrize(
    ("spent", "shown"),
    [(0.4, "0ms"), (999, "999ms"), (1500, "1.5s"), (90_000, "1.5m"), ("x", "")],
)
def test_durations(spent: Any, shown: str) -> None:
    assert audit_command._took({"duration_ms": spent}) == shown


def test_wrong_options_are_wrong_usage(run: Run) -> None:
    for code in ("abc", "1000", "-1", "9xx", "40x", "²00"):
        assert "403 or 4xx" in run("audit", "list", f"--code={code}").err
    assert run("audit", "list", "-o", "xml").code == 2
    assert run("audit", "tail", "--lines", "501").code == 2
