"""What it costs to start: run `python -m tests.bench.bench_start`; results in RESULTS.md.

Each command is a process of its own, turn by turn with `python -c pass` of the same interpreter,
and costs what the kernel accounts to it: user and system time, its children's too. Time on the
clock is not looked at. Printed is the median over all rounds of the ratio within one round, beside
the target and the quartiles, which tell how noisy the machine was.

The scripts are those beside this interpreter; `--bin` names those of another environment. For
figures worth keeping that is one in which a wheel is installed: editable installations pay for
their finder at each start.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.central.api import Cluster
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.login import config, token_cache
from tests.cli.fake_central import FakeCentral, cluster

ROUNDS = 40
CLUSTERS = 20
BASELINE = "python -c pass"


class Start(NamedTuple):
    """One command to start, and at most how many times the cost of the baseline it may have."""

    name: str
    target: float
    command: tuple[str, ...]
    environment: Mapping[str, str] = {}


def starts(folder: Path, url: str) -> list[Start]:
    """The commands of the issue: what kubectl runs, help, TAB, lists."""
    mk8s = str(folder / "mk8s")
    plugin = (str(folder / "python"), "-E", "-P", "-m", "mk8s_cli")
    token = ("get-token", "--cluster", "c-7", "--central", url)
    found = [
        Start("get-token, cached, by kubectl", 3, (*plugin, *token)),
        Start("get-token, cached, by the script", 3, (mk8s, *token)),
        Start("get-token of the current central", 3, (mk8s, *token[:3])),
        Start("get-token -o token", 3, (mk8s, *token, "-o", "token")),
        *(
            Start(f"{name} --help", 6, (str(folder / name), "--help"))
            for name in ("mk8s", "mk8s-central", "mk8s-agent")
        ),
        Start("mk8s get-token --help", 6, (mk8s, "get-token", "--help")),
    ]
    for words in ("mk8s cl", "mk8s clusters l", "mk8s use c-1", "mk8s clusters list -"):
        given = {
            "_MK8S_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        found.append(Start(f"TAB after '{words}'", 6, (mk8s,), given))
    lists = ("clusters list", "clusters list -o json", "admin users list", "admin roles list")
    return found + [Start(f"mk8s {words}", 10, (mk8s, *words.split())) for words in lists]


@contextmanager
def machine() -> Iterator[tuple[str, dict[str, str]]]:
    """A central with 20 clusters, and the environment of somebody who is logged in there."""
    central = FakeCentral(clusters=[cluster(f"c-{number}") for number in range(CLUSTERS)])
    with tempfile.TemporaryDirectory() as home, central.running():
        kept = ("PATH", "LANG", "TMPDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"HOME": home, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
        with mock.patch.dict(os.environ, environment, clear=True):
            log_in(central)
        yield central.url, environment


def log_in(central: FakeCentral) -> None:
    """Keep what a login and a kubectl command after it would have kept."""
    now = time.time()
    profile = config.Profile(
        central.url, "dev@example.com", central.authority_pem, "file", cluster="c-7"
    )
    config.update(lambda stored: config.Config(current=central.url).with_profile(profile))
    for name in ("", "c-7"):
        token = AccessToken(f"access-{name or 'any'}-1", now, now + 7200)
        token_cache.save(central.url, name, token)
    clusters = [
        Cluster(item["name"], f"{central.url}/k8s/{item['name']}", "connected", "", item)
        for item in central.clusters
    ]
    contexts.sync(profile, clusters)


def cost(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """Run one command to its end; the seconds of processor time that it took."""
    devices = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1)]
    process = os.posix_spawn(command[0], command, environment, file_actions=devices)
    _, status, used = os.wait4(process, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return used.ru_utime + used.ru_stime


def measure(folder: Path, rounds: int, only: str) -> Iterator[tuple[Start, list[float]]]:
    """Each command with its ratios to the baseline, one for each round."""
    with machine() as (url, environment):
        chosen = [one for one in starts(folder, url) if only in one.name]
        ratios: dict[str, list[float]] = {one.name: [] for one in chosen}
        bare = (str(folder / "python"), "-c", "pass")
        for _ in range(rounds):
            for one in chosen:
                given = {**environment, **one.environment}
                before, taken, after = (
                    cost(command, given) for command in (bare, one.command, bare)
                )
                ratios[one.name].append(taken / ((before + after) / 2))
        yield from ((one, ratios[one.name]) for one in chosen)


def report(results: Iterator[tuple[Start, list[float]]]) -> None:
    """Print a table in Markdown; what misses its target is in bold."""
    print(f"| processor time, times that of {BASELINE} | median | quartiles | target |")
    print("| --- | --- | --- | --- |")
    for one, ratios in results:
        low, middle, high = statistics.quantiles(ratios, n=4)
        shown = f"{middle:.1f}" if middle <= one.target else f"**{middle:.1f}**"
        print(f"| {one.name} | {shown} | {low:.1f} to {high:.1f} | {one.target:.0f} |")


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="at least 2")
    parser.add_argument("--bin", type=Path, default=Path(sys.executable).parent)
    parser.add_argument("--only", default="", help="commands with this in their name")
    return parser


def main() -> None:
    """Read the options, measure, print."""
    options = arguments().parse_args()
    report(measure(options.bin.absolute(), options.rounds, options.only))
    version = subprocess.run(
        [options.bin / "python", "--version"], capture_output=True, text=True, check=True
    )
    print(f"\n{version.stdout.strip()}, {options.rounds} rounds, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
