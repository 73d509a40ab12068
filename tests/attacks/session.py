"""One run: options, stages as the attacks need them, the attacks one by one, the report."""

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.attacks import catalogue, judge, report
from tests.attacks.attack import Attack, Check, LeftOut, Load, NotHeld
from tests.attacks.judge import Finding, Memory
from tests.attacks.meter import Peaks, Window, cpu_of, resident, seconds_till_back
from tests.attacks.stage import Stage
from tests.bench.relay.launch import FAILURES

RESULTS = Path(__file__).with_name("RESULTS.md")
_QUIET_SECONDS = 3.0
_PATIENCE = 45.0
"""Beyond its own time, for an attack's process to end."""


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.attacks",
        description="Attacks a central and an agent, on loopback, beside another user's requests.",
    )
    parser.add_argument("--quick", action="store_true", help="two seconds each, small counts")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="beginnings of names")
    parser.add_argument("--list", action="store_true", help="the names of all attacks")
    parser.add_argument(
        "--output", type=Path, metavar="FILE",
        help="where the table goes; by default tests/attacks/RESULTS.md after a whole run, else "
        "only to standard output",
    )  # fmt: skip
    parser.add_argument(
        "--keep", nargs="+", type=Path, default=[], metavar="FILE",
        help="tables of earlier runs: their rows stay where this run has none",
    )  # fmt: skip
    return parser.parse_args(given)


class Session:
    """Runs attacks, each on a stage with the settings that it wants."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self._folder = folder
        self._quick = quick
        self._stage: Stage | None = None
        self._settings: dict[str, str] = {}
        self._count = 0
        self.quiet: list[float] = []
        """The neighbour's p99 without an attack."""
        self.findings: list[Finding] = []

    def run(self, attack: Attack) -> Finding:
        """One attack; what is wrong with the tool itself is its finding, too."""
        finding = Finding(attack.name, attack.point, attack.what)
        self.findings.append(finding)
        try:
            stage = self._stage_for(attack)
            if isinstance(attack, Load):
                self._load(stage, attack, finding)
            else:
                self._check(stage, attack, finding)
        except LeftOut as reason:
            finding.why = f"left out: {reason}"
        except NotHeld as reason:
            finding.held, finding.why = False, str(reason)
        except (*FAILURES, KeyError, ValueError) as error:
            finding.held, finding.why = False, f"{type(error).__name__}: {str(error)[:300]}"
            say(traceback.format_exc())
            self.close()
        if attack.alone:
            self.close()
        return finding

    def _stage_for(self, attack: Attack) -> Stage:
        settings = dict(attack.settings)
        if self._stage is not None and (
            attack.alone or settings != self._settings or not self._stage.running
        ):
            self.close()
        if self._stage is None:
            self._count += 1
            folder = self._folder / f"stage-{self._count}"
            folder.mkdir()
            made = Stage(folder, settings, quick=self._quick)
            made.start()
            self._stage, self._settings = made, settings
            made.neighbour.wait_for(150)  # heads known, pools dialled, code warm
        return self._stage

    def _window(self, stage: Stage, start: float) -> Window:
        return stage.neighbour.window(start, time.monotonic())

    def _before(self, stage: Stage) -> Window:
        start = time.monotonic()
        time.sleep(1.0 if self._quick else _QUIET_SECONDS)
        stage.neighbour.wait_for(10)
        window = self._window(stage, start)
        self.quiet.append(window.p99)
        return window

    def _load(self, stage: Stage, attack: Load, finding: Finding) -> None:
        """A load is tried again when the figures miss: noise only ever adds."""
        tries = 1 if self._quick else report.TRIES
        for number in range(1, tries + 1):
            finding.tries = number
            told = self._once(stage, attack, finding)
            found = judge.faults(finding, judge.floor(self.quiet))
            if not found or number == tries:
                break
            say(f"{attack.name}: {'; '.join(found)}; again")
            self._settle(stage)
        finding.held = not found
        finding.why = "; ".join([*found, told])

    def _once(self, stage: Stage, attack: Load, finding: Finding) -> str:
        seconds = min(2.0, attack.seconds) if self._quick else attack.seconds
        pids = stage.pids
        finding.before = self._before(stage)
        before = {name: resident(pid) for name, pid in pids.items()}
        start, cpu = time.monotonic(), cpu_of(pids["central"])
        with Peaks(pids) as peaks, stage.attacker(attack.name, seconds) as program:
            start, cpu = time.monotonic(), cpu_of(pids["central"])
            program.wait_for_line("^counts ", seconds=seconds + _PATIENCE)
            took = time.monotonic() - start
            finding.cpu = (cpu_of(pids["central"]) - cpu) / took
            finding.during = self._window(stage, start)
            counts = json.loads(program.output.rpartition("counts ")[2])
            finding.rate = report.rate(counts, took)
        told = attack.judge(stage, counts) if attack.judge else report.answers(counts)
        patience = 5.0 if self._quick else judge.MEMORY_SECONDS
        waited, after = seconds_till_back(pids, before, judge.MEMORY_SHARE, patience)
        finding.memory = Memory(before, dict(peaks.most), after, waited)
        self._still_there(stage)
        return told

    def _settle(self, stage: Stage) -> None:
        time.sleep(3.0)
        stage.neighbour.wait_for(20)

    def _still_there(self, stage: Stage) -> None:
        for program in (stage.central, *stage.agents.values()):
            if not program.running:
                raise NotHeld(f"{program.name} ended: {program.output[-300:]}")

    def _check(self, stage: Stage, attack: Check, finding: Finding) -> None:
        finding.before = None if attack.alone else self._before(stage)
        start = time.monotonic()
        finding.why = attack.act(stage)
        finding.held = True
        stage.neighbour.wait_for(20, 10)
        finding.during = None if attack.harms else self._window(stage, start)
        self._still_there(stage)
        window = finding.during
        if window is not None and window.errors:
            raise NotHeld(f"the neighbour got {dict(window.errors)}; {finding.why}")

    def close(self) -> None:
        """Ends the stage."""
        stage, self._stage = self._stage, None
        if stage is not None:
            try:
                stage.close()
            except AssertionError as error:
                say(f"at the end of a stage: {str(error)[:300]}")


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def perform(attacks: Sequence[Attack], *, quick: bool) -> tuple[list[Finding], list[float]]:
    """All of these, and the neighbour's p99 without any. Ctrl-C keeps what there is."""
    with tempfile.TemporaryDirectory(prefix="mk8s-attacks-") as folder:
        session = Session(Path(folder), quick=quick)
        try:
            for attack in attacks:
                say(attack.name)
                finding = session.run(attack)
                held = {True: "held", False: "NOT held", None: ""}[finding.held]
                say(f"{attack.name}: {held} {finding.rate} {finding.why}")
        except KeyboardInterrupt:
            say("interrupted: what was found so far is written")
        finally:
            session.close()
    return session.findings, session.quiet


def main(given: Sequence[str] | None = None) -> int:
    """Runs the attacks; 1 when one was not held."""
    wanted = arguments(given)
    attacks = catalogue.chosen(wanted.only)
    if wanted.list:
        print("\n".join(f"{it.name:32} {it.point:8} {it.what}" for it in attacks))
        return 0
    # ended by SIGTERM, it still ends its processes and writes what it found
    signal.signal(signal.SIGTERM, _terminated)
    described = report.describe(quick=wanted.quick)
    findings, quiet = perform(attacks, quick=wanted.quick)
    told = together(findings, report.run(quiet, described), wanted.keep)
    output = wanted.output
    if output is None and not wanted.only and not wanted.quick:
        output = RESULTS
    if output is not None:
        output.write_text(told)
    print(told)
    return 1 if any(it.held is False for it in findings) else 0


def together(findings: Sequence[Finding], run: str, kept: Sequence[Path]) -> str:
    """The table of this run and of earlier ones, in the order of the catalogue."""
    rows, runs = {}, [run]
    for file in kept:
        older, about = report.earlier(file.read_text())
        rows |= older
        runs = [*about, *runs]
    rows |= report.rows_of(findings)
    ordered = {it.name: rows[it.name] for it in catalogue.ATTACKS if it.name in rows}
    return report.table(ordered, runs)


def _terminated(*_: Any) -> None:
    raise KeyboardInterrupt
