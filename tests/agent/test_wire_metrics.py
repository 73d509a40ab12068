"""Metrics: joined over processes, and written so that Prometheus reads them."""

import re
from collections.abc import Iterable

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mk8s_agent.tunnel.metrics import METRICS as OF_THE_AGENT
from mk8s_agent.wire.exposition import exposition
from mk8s_agent.wire.metrics import (
    SECONDS,
    Metric,
    Snapshot,
    counters_only,
    histogram,
    joined,
    note,
    time_loop,
)
from mk8s_proxy.process.metrics import METRICS as OF_CENTRAL

TABLE = (
    Metric("x_things_total", "counter", "Things.", ("kind",)),
    Metric("x_open", "gauge", "Open."),
    Metric("x_age_seconds", "gauge", "Age.", joined_by="most"),
    Metric("x_spent_seconds", "histogram", "Spent.", ("stage",)),
    Metric("x_absent_total", "counter", "Never seen."),
)
SPENT = histogram()
for seconds in (0.001, 0.0011, 61.0):
    note(SPENT, seconds)
ONE: Snapshot = {
    "x_things_total": {("a",): 1, ("b",): 2},
    "x_open": {(): 3},
    "x_age_seconds": {(): 4.0},
    "x_spent_seconds": {("s",): SPENT},
}
OTHER: Snapshot = {
    "x_things_total": {("b",): 5, ('c"\n\\',): 1},
    "x_open": {(): 1},
    "x_age_seconds": {(): 2.5},
    "x_spent_seconds": {("s",): SPENT},
    "x_unknown": {(): 9},
}


def samples(families: Iterable[object]) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (it.name, tuple(it.labels.values())): it.value
        for family in families
        for it in family.samples  # type: ignore[attr-defined]
    }


def test_processes_are_joined() -> None:
    together = joined(TABLE, [ONE, OTHER])
    assert together["x_things_total"] == {("a",): 1, ("b",): 7, ('c"\n\\',): 1}
    assert together["x_open"] == {(): 4}
    assert together["x_age_seconds"] == {(): 4.0}
    spent = together["x_spent_seconds"]["s",]
    assert isinstance(spent, list)
    assert (sum(spent[:-1]), spent[-1]) == (6, pytest.approx(2 * 61.0021))
    assert "x_unknown" not in together
    assert SPENT[0] == 1, "what was joined has not changed"
    assert joined(TABLE, []) == {}


def test_of_a_process_that_is_gone_only_the_counters_count() -> None:
    assert set(counters_only(TABLE, ONE)) == {"x_things_total", "x_spent_seconds"}


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0", "*/*"])
def test_a_real_parser_reads_it(accept: str) -> None:
    body, content_type = exposition(TABLE, joined(TABLE, [ONE, OTHER]), accept)
    text = body.decode()
    if "openmetrics" in accept:
        assert content_type.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
        found = samples(openmetrics.text_string_to_metric_families(text))
    else:
        assert content_type.startswith("text/plain; version=")
        found = samples(text_string_to_metric_families(text))
    assert found["x_things_total", ('c"\n\\',)] == 1
    assert found["x_open", ()] == 4
    assert found["x_spent_seconds_count", ("s",)] == 6
    bounds = [value for (name, _), value in found.items() if name == "x_spent_seconds_bucket"]
    assert bounds == [2, 4, *[4] * (len(SECONDS) - 2), 6]
    assert "# HELP x_absent" in text


def test_a_loop_that_is_late_is_noted() -> None:
    class Loop:
        now = 10.0

        def time(self) -> float:
            return self.now

        def call_at(self, when: float, callback: object) -> None:
            self.now = when + 0.2
            assert callable(callback)
            callback()

    delays = histogram()
    time_loop(Loop(), delays)
    assert delays[-1] == pytest.approx(0.2)
    assert sum(delays[:-1]) == 1


UNITS = ("_total", "_seconds", "_bytes", "_timestamp_seconds")
PLAIN = {"healthy", "workers", "tunnels", "connections", "requests"}


@pytest.mark.parametrize("metric", [*OF_CENTRAL, *OF_THE_AGENT], ids=lambda it: it.name)
def test_names_are_those_of_prometheus(metric: Metric) -> None:
    """https://prometheus.io/docs/practices/naming/"""
    assert re.fullmatch(r"mk8s_(central|agent)(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")
    assert metric.name.endswith(UNITS) or metric.name.rpartition("_")[2] in PLAIN
    assert metric.meaning.endswith(".")
    assert all(re.fullmatch("[a-z]+", label) and label != "le" for label in metric.labels)
    assert metric.joined_by == "sum" or metric.kind == "gauge"


def test_every_name_is_there_once() -> None:
    """A family of OpenMetrics is called as its counter without the ending."""
    names = [it.name.removesuffix("_total") for it in (*OF_CENTRAL, *OF_THE_AGENT)]
    assert len(set(names)) == len(names)
