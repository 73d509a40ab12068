"""Runs the matrix: each client, each row, directly and through mk8s at the same time.

Both runs have a namespace of their own with names of one length; they start together so that ages
and controllers are in the same state.
"""

import secrets
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.conformance.client import Client, Session
from tests.conformance.compare import compare
from tests.conformance.manifests import QUIET
from tests.conformance.operations import ALONE, NEEDS_NODE, NO_OPERATION, TITLES
from tests.conformance.operations import NEWER as NEWER_CHAPTER
from tests.conformance.outcome import Cell, Matrix, Outcome, Unavailable, Verdict
from tests.conformance.place import Place
from tests.conformance.stage import NEWER, REAL, Stage, prepare_namespace, wait_for_pods

WAYS = {"by-host": "host", "by-token": "token", "static-token": "static"}
"""Rows that reach mk8s otherwise than by path with the exec plugin."""


class Runner:
    """Fills a matrix."""

    def __init__(self, stage: Stage, matrix: Matrix, rows: Sequence[str]) -> None:
        self.stage = stage
        self.matrix = matrix
        self.rows = rows

    def run(self, client: Client) -> None:
        """Every row of one client."""
        known = client.keys()
        groups: dict[tuple[str, str], list[str]] = {}
        for key in self.rows:
            if reason := self._missing(key, known):
                self.matrix.put(key, client.name, Cell(Verdict.UNAVAILABLE, reason))
            else:
                groups.setdefault(self._group_of(key), []).append(key)
        for (cluster, way), keys in groups.items():
            with self._pair(client, cluster, way) as (direct, through):
                for key in keys:
                    cell = self._cell(key, direct, through)
                    self.matrix.put(key, client.name, cell)
                    shown = f"{client.name}: {TITLES[key]}: {cell.verdict} {cell.reason}"
                    print(f"{shown[:400]} ({cell.seconds:.1f} s)", file=sys.stderr, flush=True)

    def _group_of(self, key: str) -> tuple[str, str]:
        """Cluster and way of a row."""
        cluster = self.stage.newer if key in NEWER_CHAPTER.rows else REAL
        return cluster, WAYS.get(key, "path")

    def _missing(self, key: str, known: Mapping[str, str]) -> str:
        """Why a row cannot be run at all; "" when it can."""
        cluster, _ = self._group_of(key)
        if cluster not in self.stage.world.clusters:
            return "no real API server in this run"
        if key in NEEDS_NODE and not self.stage.has_node:
            return "the cluster of this run has no node"
        return known.get(key, NO_OPERATION)

    @contextmanager
    def _pair(self, client: Client, cluster: str, way: str) -> Iterator[tuple["Run", "Run"]]:
        """A session directly and one through mk8s, each with its namespace."""
        places = (self.stage.place(cluster, "direct"), self.stage.place(cluster, way))
        runs = []
        mark = secrets.token_hex(3)
        try:
            for number, place in enumerate(places):
                runs.append(self._open(client, cluster, place, f"way{number}-{mark}"))
            yield runs[0], runs[1]
        finally:
            for run in runs:
                run.session.close()
                self._remove(cluster, run.namespace)

    def _open(self, client: Client, cluster: str, place: Place, namespace: str) -> "Run":
        kubeconfig = self.stage.world.clusters[cluster]
        prepare_namespace(self.stage.world, namespace, kubeconfig, more=QUIET)
        if cluster == NEWER or self.stage.has_node:
            wait_for_pods(self.stage.world, namespace, kubeconfig)
        folder = self.stage.folder / namespace
        folder.mkdir()
        session = client.open(place, namespace, folder)
        return Run(session, namespace, {**place.chosen, namespace: "SPACE", str(folder): "FOLDER"})

    def _remove(self, cluster: str, namespace: str) -> None:
        words = ("delete", "namespace", namespace, "--wait=false")
        self.stage.world.direct(*words, kubeconfig=self.stage.world.clusters[cluster], code=None)

    def _cell(self, key: str, direct: "Run", through: "Run") -> Cell:
        started = time.monotonic()
        with ThreadPoolExecutor(1 if key in ALONE else 2) as pool:
            runs = [pool.submit(run.perform, key) for run in (direct, through)]
            results = [run.result() for run in runs]
        cell = judge(results[0], results[1], (direct.chosen, through.chosen))
        return Cell(cell.verdict, cell.reason, cell.steps, time.monotonic() - started)


Result = list[Outcome] | Unavailable | str


class Run:
    """One of the two runs."""

    def __init__(self, session: Session, namespace: str, chosen: Mapping[str, str]) -> None:
        self.session = session
        self.namespace = namespace
        self.chosen = chosen

    def perform(self, key: str) -> Result:
        """The steps, or why there are none, or how the attempt itself broke."""
        try:
            return self.session.perform(key)
        except Unavailable as unavailable:
            return unavailable
        except Exception as error:  # noqa: BLE001 - whatever breaks is a finding, not our end
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} at {where.name}: {' '.join(str(error).split())}"


def judge(
    direct: Result, through: Result, chosen: tuple[Mapping[str, str], Mapping[str, str]]
) -> Cell:
    """The cell of two results."""
    if isinstance(direct, Unavailable):
        return Cell(Verdict.UNAVAILABLE, str(direct))
    if isinstance(through, Unavailable):
        return Cell(Verdict.DIFFERS, f"available directly, not through mk8s: {through}")
    if isinstance(direct, str):
        # Without a run to compare with, nothing is proven: never "same".
        return Cell(Verdict.UNAVAILABLE, f"breaks without mk8s too: {direct[:300]}")
    if isinstance(through, str):
        return Cell(Verdict.DIFFERS, f"only through mk8s: {through[:600]}")
    return compare(direct, through, chosen)
