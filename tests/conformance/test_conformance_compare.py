"""The conformance runner calls equal runs the same and names the first difference of others."""

import json
from pathlib import Path

import pytest

from tests.conformance import report
from tests.conformance.compare import compare
from tests.conformance.kubectl_session import requests_in
from tests.conformance.operations import NO_OPERATION, TITLES
from tests.conformance.outcome import Cell, Matrix, Outcome, Unavailable, Verdict
from tests.conformance.runner import judge

NOTHING: tuple[dict[str, str], dict[str, str]] = ({}, {})
STEP = Outcome("get pods", 0, "web", "", ("GET /pods 200 OK",))


def test_equal_steps_are_the_same() -> None:
    assert compare([STEP], [STEP], NOTHING) == Cell(Verdict.SAME, "", 1)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Outcome("get pods", 1, "web", "", STEP.facts), "code 0 | mk8s: code 1"),
        (Outcome("get pods", 0, "wob", "", STEP.facts), "output: direct: web | mk8s: wob"),
        (Outcome("get pods", 0, "web", "W", STEP.facts), "errors: direct: (nothing) | mk8s: W"),
        (Outcome("get pods", 0, "web", "", ("GET /pods 503",)), "requests: direct: GET /pods 200"),
    ],
)
def test_each_part_of_a_step_counts(other: Outcome, told: str) -> None:
    cell = compare([STEP], [other], NOTHING)
    assert cell.verdict is Verdict.DIFFERS
    assert told in cell.reason


def test_a_missing_step_is_a_difference() -> None:
    assert compare([STEP, STEP], [STEP], NOTHING).verdict is Verdict.DIFFERS


def test_requests_have_no_order() -> None:
    one = Outcome("x", 0, facts=("GET /a 200", "GET /b 200"))
    other = Outcome("x", 0, facts=("GET /b 200", "GET /a 200"))
    assert compare([one], [other], NOTHING).verdict is Verdict.SAME


@pytest.mark.parametrize(
    ("direct", "through", "verdict"),
    [
        (Unavailable("old"), Unavailable("old"), Verdict.UNAVAILABLE),
        ([STEP], Unavailable("old"), Verdict.DIFFERS),
        ([STEP], "TimeoutError", Verdict.DIFFERS),
        ("TimeoutError", "TimeoutError", Verdict.UNAVAILABLE),
        ("TimeoutError", [STEP], Verdict.UNAVAILABLE),
    ],
)
def test_what_was_not_compared_is_never_the_same(
    direct: list[Outcome] | Unavailable | str,
    through: list[Outcome] | Unavailable | str,
    verdict: Verdict,
) -> None:
    assert judge(direct, through, NOTHING).verdict is verdict


def test_requests_are_read_from_both_forms_of_the_log() -> None:
    log = (
        "I1122 15:59:11.0 1 round_trippers.go:553] GET https://h/api 200 OK in 19 milliseconds\n"
        'I1122 15:59:11.2 2 round_trippers.go:632] "Response" verb="GET" url="https://h/api"'
        ' status="200 OK" milliseconds=11\n'
    )
    assert requests_in(log) == ("GET https://h/api 200 OK",) * 2


def test_the_results_get_the_table_and_keeps_the_rest(tmp_path: Path) -> None:
    matrix = Matrix(server="1.37.2")
    key = next(iter(TITLES))
    matrix.put(key, "one", Cell(Verdict.SAME, "", 3))
    matrix.put(key, "two", Cell(Verdict.DIFFERS, "a | b", 3))
    results = tmp_path / "RESULTS.md"
    marks = report.BEGIN.format("1.37"), report.END.format("1.37")
    other = "\n".join(mark.format("1.20") for mark in (report.BEGIN, report.END))
    results.write_text(f"before\n{other}\n{marks[0]}\nold\n{marks[1]}\nafter\n")
    report.publish(matrix, results, "command")
    text = results.read_text()
    assert text.startswith(f"before\n{other}\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert f"| {TITLES[key]} | same | **differs** 1 |" in text
    assert "1. differs: a \\| b" in text
    assert json.loads(report.as_json(matrix))["counts"]["same"] == 1
    assert report.from_json(report.as_json(matrix)) == matrix


def test_the_short_table_has_a_line_for_each_client() -> None:
    matrix = Matrix()
    for key, verdict in (("watch", Verdict.SAME), ("leader-election", Verdict.UNAVAILABLE)):
        matrix.put(key, "one", Cell(verdict, NO_OPERATION))
    assert report.uses(matrix, {}) == [
        "| client | watch | leader election |",
        "|---|---|---|",
        "| one | same |  |",
    ]


def test_columns_are_in_one_order_however_they_came() -> None:
    came = ["k9s 0.50.16", "helm 4.3", "stranger", "kubectl 1.37", "helm 3.22", "kubectl 1.9"]
    ordered = report.in_order(came, ["helm 3", "helm 4", "k9s"])
    assert ordered == ["kubectl 1.9", "kubectl 1.37", "helm 3.22", "helm 4.3", "k9s 0.50.16",
                       "stranger"]  # fmt: skip
    assert report.in_order(ordered) == ordered


def test_what_is_left_out_is_told_with_its_reason() -> None:
    matrix = Matrix(left_out={"k9s": "left out: k9s: go is not installed"})
    assert "- left out: k9s: go is not installed" in report.as_markdown(matrix)
    assert "left out: k9s: go is not installed" in report.as_text(matrix)
    assert report.from_json(report.as_json(matrix)) == matrix


def test_an_operation_that_a_client_does_not_have_is_an_empty_cell() -> None:
    matrix = Matrix()
    matrix.put("watch", "one", Cell(Verdict.UNAVAILABLE, NO_OPERATION))
    matrix.put("watch", "two", Cell(Verdict.UNAVAILABLE, "too old"))
    assert "| watch |  | - 1 |" in report.as_markdown(matrix)
    assert report.told_counts(matrix)[Verdict.UNAVAILABLE] == 1


def test_results_without_the_marks_are_left_alone(tmp_path: Path) -> None:
    results = tmp_path / "RESULTS.md"
    results.write_text("text\n")
    with pytest.raises(ValueError, match="has no lines"):
        report.publish(Matrix(), results, "command")
    assert results.read_text() == "text\n"
