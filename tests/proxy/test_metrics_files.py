"""The metrics of several workers in one answer, whoever lives and whoever is asked."""

from pathlib import Path

import pytest

from mk8s_agent.wire.metrics import Snapshot
from mk8s_proxy.process.metrics_files import FRESH_SECONDS, MetricsFiles
from mk8s_proxy.process.worker import Worker

SHIPPED, OPEN, AGE = (
    "mk8s_central_shipped_rows_total",
    "mk8s_central_open_connections",
    "mk8s_central_policy_age_seconds",
)


class Process:
    """A worker whose values the test sets."""

    def __init__(self, folder: Path | None, number: int, count: int = 2) -> None:
        self.now = 1000.0
        self.values: Snapshot = {SHIPPED: {(): 0}, OPEN: {(): 1}, AGE: {(): 0.5}}
        self.files = MetricsFiles(
            Worker(number, count, folder), lambda _: dict(self.values), lambda: self.now
        )

    def ships(self, rows: int) -> None:
        self.values[SHIPPED] = {(): rows}

    def shown(self, name: str = SHIPPED) -> object:
        return self.files.all().get(name, {}).get(())


def test_one_process_has_no_files() -> None:
    alone = Process(None, 1, 1)
    alone.ships(3)
    assert alone.shown() == 3


def test_each_worker_answers_for_all(tmp_path: Path) -> None:
    one, two = Process(tmp_path, 1), Process(tmp_path, 2)
    one.ships(3)
    two.ships(4)
    two.files.write()
    assert one.shown() == two.shown() == 7
    assert (one.shown(OPEN), one.shown(AGE)) == (2, 0.5)
    one.ships(5)
    assert one.shown() == 9, "its own values are those of now"


def test_a_worker_that_died_counts_once_and_its_place_goes_on(tmp_path: Path) -> None:
    one, two = Process(tmp_path, 1), Process(tmp_path, 2)
    two.ships(4)
    assert two.shown() == 4
    seen = [one.shown()]
    two.ships(6)  # killed before anybody heard of it
    seen.append(one.shown())
    successor = Process(tmp_path, 2)
    seen += [one.shown(), successor.shown(), one.shown()]
    successor.ships(1)
    seen += [successor.shown(), one.shown()]
    third = Process(tmp_path, 2)
    seen += [third.shown(), one.shown()]
    assert seen == [4, 4, 4, 4, 4, 5, 5, 5, 5]
    assert one.shown(OPEN) == 2, "what the dead had open is gone"


def test_what_a_silent_worker_had_open_is_not_believed_for_long(tmp_path: Path) -> None:
    one, two = Process(tmp_path, 1), Process(tmp_path, 2)
    two.ships(4)
    two.files.write()
    one.now += FRESH_SECONDS
    assert (one.shown(), one.shown(OPEN)) == (4, 1)


@pytest.mark.parametrize("content", [b"", b"[", b"[1]", b'{"a": 1}'])
def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path, content: bytes) -> None:
    one = Process(tmp_path, 1)
    (tmp_path / "metrics-2.json").write_bytes(content)
    one.ships(2)
    assert one.shown() == 2
    assert Process(tmp_path, 2).shown(SHIPPED) == 2


def test_a_folder_that_cannot_be_written_costs_only_what_others_know(tmp_path: Path) -> None:
    one = Process(tmp_path / "absent", 1)
    one.ships(2)
    assert one.shown() == 2


async def test_it_takes_a_small_part_of_the_time(tmp_path: Path) -> None:
    moments = iter([100.0, 100.5, 101.0, 130.0, 130.001])
    one = Process(tmp_path, 1)
    one.files = MetricsFiles(
        Worker(1, 2, tmp_path), lambda _: one.values, monotonic=lambda: next(moments)
    )
    own = tmp_path / "metrics-1.json"
    one.files.second()
    assert own.exists()
    own.unlink()
    one.files.second()
    assert not own.exists(), "it took half a second: not again at once"
    one.files.second()
    assert own.exists()
