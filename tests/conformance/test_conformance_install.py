"""Two runs at a time share one installation of the JavaScript client, and none takes half of it."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conformance import installing
from tests.conformance.javascript import install

INSTALLS = """
import pathlib, time
pathlib.Path("first").touch()
time.sleep(0.2)
pathlib.Path("second").touch()
with open("../runs", "a") as runs:
    runs.write("x")
"""


def test_runs_at_a_time_install_once_and_wait_for_the_whole(tmp_path: Path) -> None:
    folder = tmp_path / "js"

    def run(_: int) -> list[str]:
        assert install(folder, [sys.executable, "-c", INSTALLS]) == ""
        return sorted(path.name for path in folder.iterdir())

    with ThreadPoolExecutor(3) as runs:
        found = list(runs.map(run, range(3)))
    assert found == [[".whole", "first", "package.json", "second"]] * 3
    assert (tmp_path / "runs").read_text() == "x"


def test_an_installation_that_fails_or_was_cut_short_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "js"
    assert "no luck" in install(folder, [sys.executable, "-c", "exit('no luck')"])
    assert not folder.exists()
    folder.mkdir()
    (folder / "half").touch()
    assert install(folder, [shutil.which("true") or "true"]) == ""
    assert not (folder / "half").exists()


def test_an_installation_that_takes_too_long_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "program"
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert "took over 0" in installing.install(folder, command, seconds=0.01)
    assert not folder.exists()


def test_two_versions_are_two_installations(tmp_path: Path) -> None:
    touch = [sys.executable, "-c", "open('program', 'w')"]
    for version in ("1.2.3", "1.2.4"):
        assert installing.install(tmp_path / f"program-{version}", touch) == ""
    assert {path.parent.name for path in tmp_path.glob("*/program")} == {
        "program-1.2.3", "program-1.2.4"
    }  # fmt: skip
