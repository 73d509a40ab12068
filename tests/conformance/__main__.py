"""`python -m tests.conformance`: the same operations directly and through mk8s, with every client.

Prints a table: rows are operations, columns clients, a cell is "same", "differs" or "not
available". Exit code 1 when anything differs. What counts as equal: the exit code (or HTTP status),
both output streams and the requests that the client logged, after `normalise.RULES`.
"""

import argparse
import datetime
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conformance import report
from tests.conformance.client import Client
from tests.conformance.clients import FACTORIES, all_clients, is_wanted
from tests.conformance.operations import TITLES
from tests.conformance.outcome import Matrix, Verdict
from tests.conformance.runner import Runner
from tests.conformance.stage import stage
from tests.support import cluster

RESULTS = Path(__file__).with_name("RESULTS.md")


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, help="admin kubeconfig of a running test "
                        "cluster with a node; by default MK8S_TEST_CLUSTER starts one")  # fmt: skip
    parser.add_argument("--newer-only", action="store_true", help="only the built-in API server")
    parser.add_argument("--clients", default="", help="words of clients' names, e.g. 1.33,python")
    parser.add_argument("--operations", default="", help="keys of rows, separated by commas")
    parser.add_argument("--json", type=Path, help="write everything to this file too")
    parser.add_argument("--resume", action="store_true", help="begin with what --json holds")
    parser.add_argument(
        "--publish", action="store_true", help=f"update the table in {RESULTS.name}"
    )
    parser.add_argument("--list", action="store_true", help="list rows and clients, run nothing "
                        "(clients that are not built yet are built)")  # fmt: skip
    return parser


@contextmanager
def real_cluster(options: argparse.Namespace) -> Iterator[Path | None]:
    """The admin kubeconfig to use, None for none."""
    if options.newer_only:
        yield None
    elif options.kubeconfig:
        yield options.kubeconfig.resolve()
    elif cluster.COMMAND in os.environ:
        with cluster.machine_lock(), cluster.running("mk8s-conformance", "--node") as kubeconfig:
            yield kubeconfig
    else:
        sys.exit(f"no cluster: give --kubeconfig or set {cluster.COMMAND}, or use --newer-only")


def chosen_rows(text: str) -> list[str]:
    """The rows to run, all without a choice."""
    keys = [key for key in text.split(",") if key]
    if unknown := set(keys) - set(TITLES):
        sys.exit(f"no such operation: {', '.join(sorted(unknown))}; --list shows them")
    return keys or list(TITLES)


def run(
    options: argparse.Namespace, matrix: Matrix, clients: Sequence[Client], rows: Sequence[str]
) -> None:
    """Fill the matrix, and write it after each client."""
    with (
        tempfile.TemporaryDirectory(prefix="mk8s-c") as folder,
        real_cluster(options) as real,
        stage(Path(folder), real) as running,
    ):
        if matrix.cells and matrix.server != running.server:
            sys.exit(f"{options.json} is of Kubernetes {matrix.server}, this is {running.server}")
        matrix.server = running.server
        for client in clients:
            Runner(running, matrix, rows).run(client)
            if options.json:
                options.json.write_text(report.as_json(matrix))


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    options = arguments().parse_args(words)
    # Whoever ends the runner ends what it started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = chosen_rows(options.operations)
    wanted = [word for word in options.clients.split(",") if word]
    clients, missing = all_clients(wanted)
    if options.list:
        print("\n".join([f"{key}: {title}" for key, title in TITLES.items()]))
        print("\n".join(["", *(client.name for client in clients), "", *missing.values()]))
        return 0
    resumed = options.resume and options.json and options.json.exists()
    matrix = report.from_json(options.json.read_text()) if resumed else Matrix()
    for title in FACTORIES:
        if is_wanted(title, wanted):
            matrix.left_out.pop(title, None)
    matrix.left_out |= missing
    if clients:
        run(options, matrix, clients, rows)
    matrix.clients = report.in_order(matrix.clients, list(FACTORIES))
    print(report.as_text(matrix))
    if options.publish:
        today = datetime.datetime.now(datetime.UTC).date()
        how = "resumed from earlier runs" if resumed else "one run"
        told = f"Kubernetes {matrix.server}, written on {today}, {how}"
        report.publish(matrix, RESULTS, told)
    return 1 if matrix.count(Verdict.DIFFERS) else 0


if __name__ == "__main__":
    sys.exit(main())
