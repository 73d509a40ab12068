"""mk8s reads a request as Kubernetes does: many generated ones, compared with Kubernetes's library.

Here and not beside the tests of central, so that it runs once: those run on the compiled wheel too.
"""

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.oracle.compare import divergences, forwarded, read_otherwise
from tests.oracle.generate import request_line
from tests.oracle.process import PROGRAM, Oracle, program

TESTS = Path(__file__).resolve().parent
BOUNDS = TESTS.parent / "deploy/docs/bounds.md"
CASES = 20_000
BATCH = 500


@pytest.fixture(scope="module")
def oracle():
    built = program()
    if built is None:
        pytest.skip(f"set {PROGRAM} to what `python -m tests.oracle.build` prints")
    with Oracle(built) as running:
        yield running


def test_attack_a_request_that_kubernetes_reads_otherwise(oracle: Oracle) -> None:
    source, compared = Random(20_000), 0
    for _ in range(CASES // BATCH):
        count, found = divergences(oracle, [request_line(source) for _ in range(BATCH)])
        assert not found
        compared += count
    assert compared > CASES // 3


@pytest.mark.parametrize("field", ["verb", "namespace", "resource", "name", "label_selector"])
def test_a_reading_that_differs_is_found(oracle: Oracle, field: str) -> None:
    line = (b"GET", b"/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Da&labelSelector=b")
    ours = forwarded(*line)
    assert ours is not None
    theirs = oracle.request(*line)
    assert not list(read_otherwise(ours.info, theirs))
    wrong = replace(ours.info, **{field: "other"})
    assert [one.split()[0] for one in read_otherwise(wrong, theirs)] == [field]


def test_every_row_of_the_bounds_names_a_test() -> None:
    rows = [row for row in BOUNDS.read_text().splitlines() if row.startswith("| ")][1:]
    written = "".join(path.read_text() for path in TESTS.glob("proxy/test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)", written, re.MULTILINE))
    named = [set(re.findall(r"`(test_\w+)`", row)) for row in rows]
    assert len(rows) > 10
    assert all(named)
    assert set().union(*named) <= defined
