"""One run of the benchmark: options, the world that is measured, the rounds, the report."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.relay import catalogue, machine, plot, publish, report
from tests.bench.relay.growth import DIMENSIONS, measure_growth, verdicts
from tests.bench.relay.laboratory import Laboratory, Options
from tests.bench.relay.launch import FAILURES
from tests.bench.relay.measures import SHAPES
from tests.bench.relay.product import ROLES, RULES
from tests.bench.relay.results import Results
from tests.bench.relay.targets import BODY_BYTES, PATHS, USERS

RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.relay",
        description="Measures the relay against its peers on this machine, all on loopback.",
    )
    parser.add_argument("--quick", action="store_true", help="short loops, small counts")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="beginnings of names")
    parser.add_argument("--growth", action="store_true", help="how cost grows, instead")
    parser.add_argument("--list", action="store_true", help="the names of all measures")
    parser.add_argument("--tunnels", type=int, default=2, help="of the product's agent (2)")
    parser.add_argument("--output", type=Path, help="folder of the report")
    parser.add_argument(
        "--publish", nargs="+", type=Path, metavar="JSON",
        help="measures nothing: writes reports' targets into tests/bench/RESULTS.md",
    )  # fmt: skip
    return parser.parse_args(given)


def output_folder(wanted: Path | None) -> Path:
    """Where the report goes: a folder per run in the user's cache unless one is named."""
    if wanted is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        wanted = cache / "mk8s-bench" / time.strftime("%Y%m%d-%H%M%S")
    wanted.mkdir(parents=True, exist_ok=True)
    return wanted


def rounds(laboratory: Laboratory, names: list[str]) -> None:
    """Each round takes every measure once: what drifts, drifts for all of them."""
    count = laboratory.options.rounds
    for number in range(count):
        for it in catalogue.chosen(names):
            say(f"round {number + 1} of {count}: {it.name}")
            it.take(laboratory, number)


def measure(options: Options, names: list[str], results: Results, *, growth: bool) -> None:
    """All rounds. What was measured before an error or Ctrl-C is kept."""
    with tempfile.TemporaryDirectory(prefix="mk8s-bench-") as folder:
        laboratory = Laboratory(Path(folder), options, results)
        try:
            say("starting")
            laboratory.start(with_peers=not growth)
            if growth:
                measure_growth(laboratory, names, say)
            else:
                rounds(laboratory, names)
        except KeyboardInterrupt:
            results.note("interrupted: not all was measured")
        except FAILURES as error:
            results.note(f"ended early, not all was measured: {error}")
        finally:
            laboratory.close()


def say(text: str) -> None:
    """Progress, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit code."""
    wanted = arguments(given)
    if wanted.publish:
        return published(wanted.publish)
    if wanted.list:
        print("\n".join(it.name for it in catalogue.MEASURES))
        print("\n".join(f"{it.name} (with --growth)" for it in DIMENSIONS))
        return 0
    # ended by SIGTERM, it still ends its processes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = Options(wanted.rounds, wanted.quick, wanted.tunnels)
    results, described = Results(), machine.describe()
    measure(options, wanted.only, results, growth=wanted.growth)
    for line in verdicts(results):
        results.note(line)
    folder = output_folder(wanted.output)
    setting = describe_setting(options)
    keep(folder, results, described, setting)
    return 0


def published(files: Sequence[Path]) -> int:
    """The table of RESULTS.md, from reports; the exit code."""
    try:
        publish.publish(files, RESULTS)
    except (OSError, ValueError) as error:
        say(str(error))
        return 1
    return 0


def describe_setting(options: Options) -> str:
    """What the reader must know to repeat the run."""
    shapes = ", ".join(
        f"{it.name} = {it.connections} x {it.streams}" for it in SHAPES if it.connections > 1
    )
    return (
        f"{options.rounds} rounds, {'quick' if options.quick else 'full'}; the product's agent "
        f"holds {options.tunnels} tunnels, the Go agent 1.\n"
        f"{USERS} tokens of {USERS} users over {PATHS} paths; {ROLES} roles of {RULES} rules; "
        f"bodies of {BODY_BYTES} bytes.\n"
        f"Connections x streams: {shapes}.\n"
        "Peers without central and agent check no token and write no journal."
    )


def keep(folder: Path, results: Results, described: dict[str, str], setting: str) -> None:
    """The text on standard output and in the folder, the JSON and the plot in the folder."""
    told = report.text(results, described, setting)
    print(told)
    (folder / "report.txt").write_text(told)
    report.write_json(folder / "report.json", results, described, setting)
    try:
        plot.draw(folder / "report.png", results, described)
    except plot.NoPlot as reason:
        say(str(reason))
    say(f"report in {folder}")
