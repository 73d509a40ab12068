"""The units for systemd: known words, programs that take their options, and little exposure."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import command_lines

UNITS = Path(__file__).resolve().parents[1] / "deploy" / "systemd"
EXPOSURE = 20
"""Of 100, as `systemd-analyze security` counts; a unit without any of it has more than 90."""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture(params=["mk8s-central", "mk8s-agent"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit as it is, but for the folder of the programs, which has to be one of this machine."""
    name = f"{request.param}.service"
    text = (UNITS / name).read_text().replace("/opt/mk8s/bin", str(Path(sys.executable).parent))
    (tmp_path / name).write_text(text)
    return tmp_path / name


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@needs_systemd
def test_a_unit_is_understood(unit: Path) -> None:
    done = analyze("verify", unit)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_a_wrong_word_would_be_found(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("NoNewPrivileges", "NoMorePrivileges"))
    assert "'NoMorePrivileges'" in analyze("verify", unit).stderr


@needs_systemd
def test_a_service_is_little_exposed(unit: Path) -> None:
    how = ("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}")
    done = analyze(*how, unit)
    assert done.returncode == 0, done.stdout
    bare = re.sub(r"(?m)^(Protect|Private|Restrict|SystemCall).*\n", "", unit.read_text())
    unit.write_text(bare)
    assert analyze(*how, unit).returncode == 1


def test_the_programs_take_their_options(unit: Path) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    program, *words = shlex.split(line)
    command_lines.check([Path(program).name, *words])


def test_the_account_is_the_one_of_the_unit() -> None:
    reader = configparser.ConfigParser(strict=False, interpolation=None)
    reader.read(UNITS / "mk8s-central.service")
    (line,) = re.findall(r"^u .*$", (UNITS / "mk8s.sysusers.conf").read_text(), re.MULTILINE)
    assert shlex.split(line)[1] == reader["Service"]["User"]
