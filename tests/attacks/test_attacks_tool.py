"""The tool's own arithmetic, its list, and one short attack of each kind on a real stage."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2 import frames
from tests.attacks import catalogue, deterministic, judge, report, session, stub_answers
from tests.attacks.attack import Check, Load, NotHeld, must
from tests.attacks.judge import Finding, Memory
from tests.attacks.meter import MIB, Window
from tests.attacks.wire import Attacker, World, indexed, request_frames

NAMES = [it.name for it in catalogue.ATTACKS]
QUIET = Window(100, 1.0, 3.0, 5.0, 4.0)


def finding(during: Window, after: int = 100, most: int = 120) -> Finding:
    memory = Memory(
        {"central": 100 * MIB, "agent": 50 * MIB},
        {"central": most * MIB, "agent": 50 * MIB},
        {"central": after * MIB, "agent": 50 * MIB},
        60.0,
    )
    return Finding("x", "1", "somebody", before=QUIET, during=during, memory=memory)


class TestTheList:
    def test_names_are_unique_and_words(self) -> None:
        assert len(set(NAMES)) == len(NAMES)
        assert all(re.fullmatch("[a-z0-9-]+", name) for name in NAMES)

    def test_attacks_that_share_a_stage_stand_together(self) -> None:
        changes = [it.settings for it in catalogue.ATTACKS if not it.alone]
        runs = [
            one for one, before in zip(changes, [None, *changes], strict=False) if one != before
        ]
        assert len(runs) == len(set(changes))

    def test_a_part_is_chosen_by_beginnings(self) -> None:
        assert {it.name for it in catalogue.chosen(["flood-rapid"])} == {
            "flood-rapid-reset",
            "flood-rapid-reset-stranger",
        }
        assert len(catalogue.chosen([])) == len(NAMES)

    @pytest.mark.parametrize("point", [*map(str, range(1, 20)), "D1", "D6", "B1", "C1", "E11"])
    def test_every_point_of_the_list_is_attacked(self, point: str) -> None:
        points = [re.split("[, ]+", it.point) for it in catalogue.ATTACKS]
        ranges = {f"C{n}" for n in (2, 3, 4)} | {"E2"}
        assert any(point in it for it in points) or point in ranges | {"17", "12"}

    @pytest.mark.parametrize("file", sorted(deterministic.TESTS))
    def test_attacks_that_are_tests_too(self, file: str) -> None:
        text = (Path(__file__).parents[2] / file).read_text()
        for attack, test in deterministic.TESTS[file].items():
            assert attack in NAMES
            assert f"def {test}(" in text


class TestTheJudge:
    def test_noise_below_the_floor_is_no_attack(self) -> None:
        assert judge.faults(finding(Window(50, 2.0, 39.0)), judge.floor([3.0])) == []
        assert judge.faults(finding(Window(50, 2.0, 41.0)), judge.floor([3.0])) != []

    def test_the_floor_is_what_the_machine_does_by_itself(self) -> None:
        assert judge.floor([]) == judge.TURNS_MS
        assert judge.floor([5.0, 77.0]) == 77.0

    def test_an_error_of_the_neighbour_is_never_noise(self) -> None:
        window = Window(50, 1.0, 2.0, errors=Counter({"503": 1}))
        assert "1 x 503" in judge.faults(finding(window), 40.0)[0]

    def test_no_answer_is_not_a_good_p99(self) -> None:
        assert judge.faults(finding(Window()), 40.0)

    def test_memory_must_come_back(self) -> None:
        assert judge.faults(finding(QUIET, after=120), 40.0) == []
        assert "keeps 21 MiB" in judge.faults(finding(QUIET, after=121), 40.0)[0]

    def test_must(self) -> None:
        must(1, "never")
        with pytest.raises(NotHeld, match="so"):
            must(0, "so")


class TestTheReport:
    def test_a_lost_attack_is_named(self) -> None:
        lost = finding(QUIET)
        lost.held, lost.why, lost.tries = False, "a | b\nc", 3
        rows = report.rows_of([lost, Finding("y", "2", "z", why="left out: no cc")])
        told = report.table(rows, [report.run([3.0], {"date": "x"})])
        assert "0 of 2 attacks held. Not held: x. Left out: y." in told
        assert "| 1.0 -> 1.0 | 3.0 -> 3.0 | 100 / 120 / 100 (60 s) |" in told
        assert "**no** (3 tries) | a / b c |" in told

    def test_rows_of_earlier_runs_stay_where_there_are_no_newer_ones(self, tmp_path: Path) -> None:
        first, second = finding(QUIET), finding(QUIET)
        first.name, second.name = "flood-ping", "flood-settings"
        second.held = True
        run = report.run([3.0], {"date": "then"})
        kept = tmp_path / "RESULTS.md"
        kept.write_text(session.together([first, second], run, []))
        first.held = True
        told = session.together([first], report.run([], {"date": "now"}), [kept])
        assert "2 of 2 attacks held.\n" in told
        assert told.index("- date: then; p99") < told.index("- date: now.")
        assert told.count("\n| flood-settings | ") == 2  # and its test

    def test_rates(self) -> None:
        counts = {"requests": 10, "connections": 2, "sent": 4096, "failed": 1}
        assert report.rate(counts, 2.0) == "5 req/s, 2 conn, 2 KB/s"
        told = report.answers(counts | {"answers": {"200": 3}, "ends": {"closed": 1}})
        assert told == "3 x 200; 1 x closed; 1 connections not to be had"


class TestTheHands:
    def test_an_indexed_field_is_read_as_one(self) -> None:
        decoder = hpack_codec.Decoder(4096, 1 << 16)
        assert decoder.decode(indexed(b":path", b"/x" * 100)) == [(b":path", b"/x" * 100)]
        assert decoder.decode(b"\xbe") == [(b":path", b"/x" * 100)]

    def test_long_blocks_go_on_in_continuations(self) -> None:
        made = request_frames(1, b"x" * 40, size=16)
        kinds = []
        while made:
            high, low, kind, flags, _ = frames.unpack_header(made, 0)
            kinds.append((kind, flags, high << 8 | low))
            made = made[9 + (high << 8 | low) :]
        assert kinds == [(1, 1, 16), (9, 0, 16), (9, 4, 8)]

    def test_an_attack_ends_with_its_time(self) -> None:
        now = [0.0]
        attacker = Attacker(World(1, "", {}, 1, ""), 5.0, clock=lambda: now[0])
        assert attacker.going
        now[0] = 5.0
        assert not attacker.going
        assert not attacker.pace(100.0)

    def test_the_stub_cuts_pages_as_go_reads_numbers(self) -> None:
        for query in ("limit=1", "limit=%2B1", "limit=0001"):
            page = json.loads(b"".join(stub_answers.pod_list(query)))
            assert (len(page["items"]), page["metadata"]["continue"]) == (1, "next")
        hidden = f"limit=1&fieldSelector=metadata.name%3D{stub_answers.HIDDEN}"
        page = json.loads(b"".join(stub_answers.pod_list(hidden)))
        assert [it["metadata"]["name"] for it in page["items"]] == [stub_answers.HIDDEN]


@pytest.mark.timeout(300)
def test_the_tool_attacks_a_real_central() -> None:
    """A flood and a check: processes start, are attacked, measured and ended."""
    chosen = [catalogue.named("flood-broken-blocks"), catalogue.named("upgrade-read-only")]
    assert [type(it) for it in chosen] == [Load, Check]
    findings, quiet = session.perform(chosen, quick=True)
    flood, check = findings
    assert "GOAWAY" in flood.why, flood
    assert flood.memory is not None
    assert set(flood.memory.before) == {"central", "agent", "agent of plain"}
    assert flood.during is not None
    assert flood.during.count > 0
    assert (check.held, check.why) == (True, "websocket: 403; SPDY: 403")
    assert len(quiet) == 2
    table = session.together(findings, report.run(quiet, report.describe(quick=True)), [])
    assert table.count("\n| flood-broken-blocks |") == 2  # what happened, and its test
