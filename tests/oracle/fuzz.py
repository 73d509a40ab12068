"""`python -m tests.oracle.fuzz --cases 2000000`: mk8s's reading of requests against Go's own.

Exit code 1 and the first divergences if there are any. Needs MK8S_TEST_ORACLE, or builds it.
"""

import random
import sys
import time

import click

from tests.oracle.build import build
from tests.oracle.compare import divergences
from tests.oracle.generate import request_line
from tests.oracle.process import Oracle, program

BATCH = 500


@click.command()
@click.option("--cases", default=20_000, help="Request lines to try.")
@click.option("--seed", default=None, type=int, help="The same seed makes the same lines.")
def main(cases: int, seed: int | None) -> None:
    """Compare."""
    chosen = random.SystemRandom().getrandbits(32) if seed is None else seed
    print(f"seed {chosen}", flush=True)
    source, begun = random.Random(chosen), time.monotonic()
    forwarded = 0
    with Oracle(program() or build()) as oracle:
        for first in range(0, cases, BATCH):
            size = min(BATCH, cases - first)
            count, found = divergences(oracle, [request_line(source) for _ in range(size)])
            forwarded += count
            if found:
                print("\n".join(found[:20]))
                sys.exit(f"{len(found)} divergences after {first + size} cases")
            if first % 100_000 == 0:
                print(f"{first + size} cases, {forwarded} forwarded", flush=True)
    seconds = time.monotonic() - begun
    print(f"{cases} cases, {forwarded} forwarded, no divergence, {seconds:.0f} s")


if __name__ == "__main__":
    main()
