"""How fast somebody is out of what is open: run `python -m tests.bench.bench_out_again`.

200 times somebody loses their right in one of the ways of `tests.support.out_again`, with a watch,
`logs -f`, `exec` and a port-forward open at each of two processes: two workers on SQLite, then two
replicas on PostgreSQL, which must be installed here.
Meanwhile other processes ask up to 160 times in a second at each, and others' watches stand open
(`--watches`).
Prints seconds until the stream has ended at the client: from the answer to the administrator (0
where it ended before), and from the request, which takes a bcrypt hash where a password is changed.
"""

import argparse
import asyncio
import itertools
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.relay.figures import percentile
from tests.bench.relay.product import CLUSTER
from tests.support.out_again import BY_SERVICE_TOKEN, SHOP, House, Stream, Victim, ways_out
from tests.support.postgres import running_postgres

REVOCATIONS = 200
WATCHES = 1000
LOAD_CONNECTIONS = 8
LOAD_PAUSE = 0.05
AT_ONCE = 20
"""Victims whose streams are open at a time."""
ADMINISTRATORS = 4
"""Who throw somebody out at the same time."""
LONGEST = 30.0

Figures = dict[tuple[str, str], list[float]]
"""Seconds by way out and kind of stream."""


def load(port: int, authority: str, token: str) -> None:
    """Ask one central as fast as it answers, until killed."""
    asyncio.run(_load(port, authority, token))


async def _load(port: int, authority: str, token: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority)
    head = (
        f"GET /k8s/{CLUSTER}{SHOP} HTTP/1.1\r\nHost: localhost:{port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()
    async with asyncio.TaskGroup() as group:
        for _ in range(LOAD_CONNECTIONS):
            group.create_task(_ask_on(port, context, head))


async def _ask_on(port: int, context: ssl.SSLContext, head: bytes) -> None:
    while True:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        try:
            while True:
                writer.write(head)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.partition(b":")[2])
                    for line in answer.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                )
                await reader.readexactly(length)
                await asyncio.sleep(LOAD_PAUSE)
        except (OSError, asyncio.IncompleteReadError, StopIteration):
            writer.close()


@contextmanager
def loaded(house: House) -> Iterator[None]:
    """Other people's requests at each central."""
    programs = [
        subprocess.Popen(
            [
                sys.executable, "-m", "tests.bench.bench_out_again", "--load", str(central.port),
                str(central.authority), central.tokens[-1],
            ]
        )
        for central in house.centrals
    ]  # fmt: skip
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


async def measure(house: House, revocations: int, watches: int) -> Figures:
    """The seconds of all revocations."""
    await house.enter()
    try:
        await house.find_pod()
        bystander = house.centrals[0].tokens[-1]
        others = [await house.bystand(number % 2, bystander) for number in range(watches)]
        figures: Figures = {}
        names = itertools.cycle(ways_out(house))
        victims = await house.victims(revocations)
        with loaded(house):
            for start in range(0, len(victims), AT_ONCE):
                pairs = [(next(names), it) for it in victims[start : start + AT_ONCE]]
                await _throw_out(house, pairs, figures)
                row = sorted(figures["all", ""])
                so_far = f"{percentile(row, 50):.2f} {percentile(row, 99):.2f} {row[-1]:.2f}"
                print(f"  {start + len(pairs)}: {so_far}", file=sys.stderr, flush=True)
        lost = sum(stream.ended.done() for stream in others)
        print(f"  of {watches} watches of others {lost} ended meanwhile")
        return figures
    finally:
        await house.leave()


async def _throw_out(house: House, pairs: list[tuple[str, Victim]], figures: Figures) -> None:
    opened: list[tuple[str, Victim, list[Stream]]] = []
    for start in range(0, len(pairs), ADMINISTRATORS):
        some = pairs[start : start + ADMINISTRATORS]
        tokens = [it.service_token if name in BY_SERVICE_TOKEN else it.token for name, it in some]
        streams = await asyncio.gather(*map(house.open_all, tokens))
        opened += [(name, it, theirs) for (name, it), theirs in zip(some, streams, strict=True)]
    for start in range(0, len(opened), ADMINISTRATORS):
        some = opened[start : start + ADMINISTRATORS]
        await asyncio.gather(*(_one(house, *it, figures) for it in some))


async def _one(
    house: House, name: str, victim: Victim, streams: list[Stream], figures: Figures
) -> None:
    asked = time.monotonic()
    await ways_out(house)[name](victim)
    told = time.monotonic()
    await asyncio.wait([stream.ended for stream in streams], timeout=LONGEST)
    for stream in streams:
        _note(figures, name, stream, asked, told)
    figures.setdefault(("the administrator's request", ""), []).append(told - asked)


def _note(figures: Figures, name: str, stream: Stream, asked: float, told: float) -> None:
    ended = stream.ended.result() if stream.ended.done() else float("inf")
    for key in ((name, ""), ("all", stream.kind), ("all", "")):
        figures.setdefault(key, []).append(max(0.0, ended - told))
    figures.setdefault(("all, from the request", ""), []).append(ended - asked)


def table(title: str, figures: Figures) -> None:
    """Print a table in Markdown."""
    print(f"\n| {title} | streams | p50 | p99 | max |\n| --- | --- | --- | --- | --- |")
    for (name, kind), seconds in figures.items():
        row = sorted(seconds)
        shown = " | ".join(
            f"{value:.2f} s" for value in (percentile(row, 50), percentile(row, 99), row[-1])
        )
        print(f"| {f'{name} {kind}'.strip()} | {len(row)} | {shown} |")


def run(title: str, database_url: str, revocations: int, watches: int) -> None:
    """Build a house, measure, print."""
    with tempfile.TemporaryDirectory(prefix="mk8s-out-") as folder:
        house = House(Path(folder), database_url)
        try:
            house.build(revocations + 1)
            figures = asyncio.run(measure(house, revocations, watches))
        finally:
            house.close()
    table(title, figures)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watches", type=int, default=WATCHES, help="that others have open")
    parser.add_argument("--revocations", type=int, default=REVOCATIONS)
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--load", nargs=3, metavar=("PORT", "AUTHORITY", "TOKEN"))
    chosen = parser.parse_args()
    if chosen.load:
        load(int(chosen.load[0]), chosen.load[1], chosen.load[2])
        return
    if chosen.only != "postgresql":
        run("2 workers, SQLite", "", chosen.revocations, chosen.watches)
    if chosen.only != "sqlite":
        with running_postgres() as server:
            run(
                "2 replicas, PostgreSQL",
                server.url(server.create()),
                chosen.revocations,
                chosen.watches,
            )


if __name__ == "__main__":
    main()
