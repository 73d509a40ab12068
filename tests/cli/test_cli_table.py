"""Tables: aligned, never broken inside a word, ages as kubectl's."""

import os
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.terminal import table as tables
from mk8s_cli.terminal.output import age
from tests.cli.conftest import Run
from tests.cli.fake_central import FakeCentral, cluster

CELLS = st.text(st.sampled_from("ab ,=-\u4e2d"), max_size=24)


class Screen:
    """Standard output that is a screen of so many columns."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def shown(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table on a screen without colours."""
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", screen)
        patch.setenv("COLUMNS", str(width))
        patch.setenv("NO_COLOR", "1")
        tables.table(columns, rows)
    return screen.text.splitlines()


def test_cells_go_on_behind_a_comma_or_a_blank() -> None:
    rows = [["prod", "get,list,watch,create", "the agent is gone"], ["dev", "", "ok"]]
    assert shown(["name", "verbs", "why"], rows, 36) == [
        "NAME   VERBS          WHY",
        "prod   get,list,      the agent is",
        "       watch,create   gone",
        "dev    -              ok",
    ]


def test_words_that_do_not_fit_are_whole_all_the_same() -> None:
    line = "https://central.example:8443"
    (_, row) = shown(["url", "n"], [[line, "1"]], 10)
    assert row == f"{line}   1"


def test_wide_characters_take_two_places() -> None:
    lines = shown(["a", "b"], [["\u4e2d\u6587", "x"], ["e\u0301", "y"]], 80)
    assert lines == ["A      B", "\u4e2d\u6587   x", "e\u0301      y"]


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4), st.integers(1, 60))
def test_no_word_is_broken_and_nothing_is_lost(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    lines = shown(["a", "b", "c"], rows, width)
    words = [word for row in rows for cell in row for word in re.findall(r"[^ ,]+", cell)]
    seen = [word for line in lines[1:] for word in re.findall(r"[^ ,]+", line)]
    filled = [word for word in seen if word != "-"]
    assert sorted(filled) == sorted(word for word in words if word != "-")


def test_where_nobody_looks_a_row_is_a_line(run: Run, central: FakeCentral) -> None:
    rows = [["a" * 300, "b, c " * 100]]
    assert len([line for line in tables._lines(rows[0], tables._widths(rows, 0)) if line]) == 1


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (325, "5m25s"),
        (600, "10m"),
        (10799, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (8 * 3600 + 300, "8h"),
        (2 * 86400 + 3600, "2d1h"),
        (8 * 86400 + 3600, "8d"),
        (2 * 365 * 86400 + 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_ages_are_those_of_kubectl(seconds: int, told: str) -> None:
    then = 1_700_000_000
    assert age("2023-11-14T22:13:20Z", then + seconds + 0.5) == told


@pytest.mark.parametrize("strange", ["", "yesterday", "9999-99-99T00:00:00Z"])
def test_what_is_no_time_is_shown_as_it_is(strange: str) -> None:
    assert age(strange, 0.0) == strange


@pytest.mark.usefixtures("logged_in")
def test_clusters_on_a_narrow_screen(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    central.clusters = [
        cluster("prod", verbs=["get", "list", "watch"], labels={"a": "b", "c": "d"})
    ]
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 24)))
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    assert run("clusters", "list").code == 0
    assert "connected" in screen.text
    assert "get," in screen.text
