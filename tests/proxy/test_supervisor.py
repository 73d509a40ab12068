"""`mk8s-central serve --workers 2` as processes: a real agent, real connections, real signals."""

import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.process.supervisor import Supervisor
from mk8s_proxy.settings.model import Settings
from tests.bench.relay.launch import Services
from tests.bench.relay.product import CLUSTER, Product
from tests.support.postgres import PostgresServer
from tests.support.processes import Program

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PASSWORD = "a long enough password"
DEMO_API = (sys.executable, "-m", "mk8s_cli.demo_api")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    services = Services(tmp_path)
    yield services
    services.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return {}
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return {"MK8S_DATABASE_URL": server.url(server.create())}


def product_of(services: Services, settings: dict[str, str]) -> Product:
    """A central of two workers that is ready to be started."""
    settings = {"MK8S_WORKERS": "2", **settings}
    product = Product(services, settings=settings, probe=CONFIG_MAPS)
    product.initialise(roles=1, people=1, rules=1)
    return product


def with_agent(services: Services, product: Product) -> Product:
    """The same, started, with an agent of the demo's cluster at both workers."""
    data = services.folder / "api"
    api = services.start(
        "demo API", (*DEMO_API, "--port", "0", "--data-dir", data), environment=os.environ
    )
    api.wait_for_line(r"^https://127")
    product.start_central()
    product.start_agent(CLUSTER, data / "kubeconfig")
    for number in (1, 2):  # a worker that has none yet answers 503, after a while
        product.central.wait_for_line(said("tunnel.opened", number), seconds=60)
    return product


def workers_of(central: Program) -> dict[int, int]:
    """The latest process of each worker's number."""
    entries = [json.loads(line) for line in central.output.splitlines() if line.startswith("{")]
    started = (entry for entry in entries if entry["event"] == "worker.started")
    return {entry["worker"]: entry["worker_pid"] for entry in started}


def said(event: str, worker: int) -> str:
    return rf'"event":"{re.escape(event)}".*"worker":{worker}\b'


def eventually(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def post(product: Product, path: str, body: dict[str, Any], token: str = "") -> tuple[int, Any]:
    """Status and body of one answer of the management API, by a connection of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(product.authority)
    connection = HTTPSConnection("localhost", product.port, context=context, timeout=20)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def answers_of(product: Product, count: int) -> set[str]:
    """The statuses of so many requests to the cluster, by a connection each."""
    return {product.get(f"/k8s/{CLUSTER}{CONFIG_MAPS}")[:3] for _ in range(count)}


def rows_of(product: Product, number: int) -> list[dict[str, Any]]:
    path = product.folder / "central" / "audit" / f"journal-{number}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def lists_of(product: Product, number: int) -> int:
    """Requests of the agent's cluster that a worker's journal says were answered."""
    return sum(
        row["stage"] == "ResponseComplete" and row["responseStatus"]["code"] == 200
        for row in rows_of(product, number)
        if row.get("objectRef", {}).get("resource") == "configmaps"
    )


def logged_out(product: Product) -> str:
    """An access token whose owner has logged in and out."""
    person = {"email": "admin@example.com", "password": PASSWORD}
    status, login = post(product, "/auth/login", person)
    assert status == 200
    token: str = login["access_token"]
    assert tried(product, token) == {200}
    ended = {"refresh_token": login["refresh_token"]}
    assert post(product, "/auth/logout", ended, token)[0] == 204
    return token


def tried(product: Product, token: str) -> set[int]:
    """What a token gets from so many connections that each worker has answered some."""
    asked = {"cluster": CLUSTER}
    return {post(product, "/auth/token", asked, token)[0] for _ in range(12)}


def test_two_workers_are_one_central(services: Services, database: dict[str, str]) -> None:
    product = with_agent(services, product_of(services, database))
    # The cluster came into the database behind their backs: each one finds it by its next poll.
    eventually(lambda: answers_of(product, 10) == {"200"}, "a worker does not know the cluster")
    # At least: the last rows of those before may be written a moment later than this is read.
    before = lists_of(product, 1) + lists_of(product, 2)
    assert answers_of(product, 40) == {"200"}
    written = f"not all of {before + 40} rows are written"
    eventually(lambda: lists_of(product, 1) + lists_of(product, 2) >= before + 40, written)
    assert lists_of(product, 1)
    assert lists_of(product, 2)

    guess = {"email": "nobody@example.com", "password": "a wrong password"}
    statuses = [post(product, "/auth/login", guess)[0] for _ in range(9)]
    assert statuses[:5] == [401] * 5
    assert 429 in statuses  # each alone would have let ten pass

    token = logged_out(product)
    assert tried(product, token) == {401}  # whoever answers knows of the logout

    pids = workers_of(product.central)
    assert product.central.stop() == 0
    assert not any(alive(pid) for pid in pids.values())


def test_a_worker_that_dies_is_replaced_and_the_agent_finds_the_new_one(
    services: Services,
) -> None:
    product = with_agent(services, product_of(services, {}))
    central = product.central
    token = logged_out(product)
    killed = workers_of(central)[2]
    seen = central.lines_printed()
    os.kill(killed, signal.SIGKILL)
    central.wait_for_line(said("worker.died", 2), after=seen)
    central.wait_for_line(said("tunnel.opened", 2), after=seen, seconds=120)
    assert workers_of(central)[2] != killed
    assert answers_of(product, 20) == {"200"}
    assert tried(product, token) == {401}  # the new worker was told what the old one knew


LOSES_ITS_FEED = """
import asyncio
from mk8s_proxy.process.main import main
from mk8s_proxy.process.policy_feed import PolicyFeed

async def run(self):
    await asyncio.sleep(0.5)
    raise RuntimeError("on purpose")

PolicyFeed.run = run
main(["serve"])
"""


def test_a_worker_that_loses_an_endless_task_drains_and_is_started_again(
    services: Services,
) -> None:
    product = product_of(services, {})
    central = services.start(
        "central", (sys.executable, "-c", LOSES_ITS_FEED), environment=product.environment()
    )
    central.wait_for_line("central.ready")
    central.wait_for_line(said("process.ending", 1))
    central.wait_for_line(said("central.draining", 1))
    central.wait_for_line(said("worker.died", 1))
    [died, *_] = [
        entry
        for entry in map(json.loads, central.output.splitlines())
        if entry["event"] == "worker.died" and entry["worker"] == 1
    ]
    assert died["code"] == 1
    assert died["reason"] == "the task 'policy feed' ended: RuntimeError: on purpose"
    assert died["pause_seconds"] > 0
    first = died["time"]
    eventually(
        lambda: any(
            entry["event"] == "worker.ready" and entry["worker"] == 1 and entry["time"] > first
            for entry in map(json.loads, central.output.splitlines())
        ),
        "the worker is not started again",
    )


def test_workers_end_when_their_supervisor_is_killed(services: Services) -> None:
    product = product_of(services, {})
    product.start_central()
    product.central.wait_for_line("central.ready")
    pids = workers_of(product.central)
    assert len(pids) == 2
    product.central.signal(signal.SIGKILL)
    product.central.wait()
    eventually(lambda: not any(alive(pid) for pid in pids.values()), "a worker lives on")


def test_a_worker_without_a_tunnel_says_try_again(services: Services) -> None:
    product = product_of(services, {})
    product.add_clusters([CLUSTER])
    product.start_central()
    product.central.wait_for_line("central.ready")

    assert answers_of(product, 10) == {"503"}


def test_an_address_in_use_is_refused_although_workers_could_share_it(services: Services) -> None:
    product = product_of(services, {})
    with socket.socket() as other:
        for shared in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            other.setsockopt(socket.SOL_SOCKET, shared, 1)
        other.bind(("127.0.0.1", product.port))
        other.listen()
        program = Program(
            "second central", (sys.executable, "-m", "mk8s_proxy", "serve"), product.environment()
        )
        with program:
            assert program.wait() == 1
    assert program.output.splitlines()[-1].startswith(
        f"mk8s-central: 127.0.0.1:{product.port} is in use"
    )


def test_what_keeps_one_worker_from_starting_ends_all_with_one_line(services: Services) -> None:
    product = product_of(services, {})
    journal = product.folder / "central" / "audit" / "journal-2.jsonl"
    journal.symlink_to("/dev/null")
    program = Program(
        "central", (sys.executable, "-m", "mk8s_proxy", "serve"), product.environment()
    )
    with program:
        assert program.wait() == 1
    assert program.output.splitlines()[-1] == (
        f"mk8s-central: {journal}: the journal must not be a symbolic link"
    )
    assert not any(alive(pid) for pid in workers_of(program).values())


def test_sighup_opens_the_journals_of_all_workers_again(services: Services) -> None:
    product = with_agent(services, product_of(services, {}))
    folder = product.folder / "central" / "audit"
    for number in (1, 2):
        path = folder / f"journal-{number}.jsonl"
        path.rename(folder / f"old-{number}.jsonl")
    product.central.signal(signal.SIGHUP)
    for number in (1, 2):
        path = folder / f"journal-{number}.jsonl"
        eventually(path.exists, "no new journal has begun")
        eventually(lambda n=number: rows_of(product, n) != [], "it does not say so")  # type: ignore[misc]
        assert rows_of(product, number)[0]["verb"] == "reopen"
    assert answers_of(product, 4) == {"200"}
    assert all(alive(pid) for pid in workers_of(product.central).values())


def test_sighup_is_passed_on_to_workers_that_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    above = Supervisor(Settings(data_dir=tmp_path, workers=3), tmp_path)
    for pid, place in enumerate(above._places, 100):
        place.pid, place.was_ready = pid, pid != 101
    above._obey(bytes([signal.SIGCHLD, signal.SIGHUP]))
    assert told == [(100, signal.SIGHUP), (102, signal.SIGHUP)]
