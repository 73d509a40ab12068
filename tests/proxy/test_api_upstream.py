"""The way to the management API on its private socket, and the health endpoints."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from mk8s_proxy.chain.api_upstream import Management
from mk8s_proxy.process.admin import create_health
from tests.support.front_door import Central, Http2Person, request
from tests.support.memory import data, rst_stream, window_update
from tests.support.tasks import LooseBackground


async def handle(asked: web.Request) -> web.Response:
    body = await asked.read()
    if asked.path == "/users":
        await asyncio.Event().wait()
    names = ("X-Mk8s-Source-Ip", "Authorization", "Cookie")
    named = {name: asked.headers[name] for name in names if name in asked.headers}
    return web.json_response({"path": asked.path_qs, "body": body.decode()} | named)


class House:
    def __init__(self, folder: Path) -> None:
        self.central = Central(folder)
        self.path = folder / "api.sock"
        self.management = Management(
            self.path, self.central.ticks, self.central.budget, LooseBackground()
        )
        self.central.chain._management = self.management.forward

    async def start(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(self.path)).start()
        return runner

    async def code(self, person: Http2Person, number: int) -> int:
        for _ in range(2000):
            if person.answer(number).ended or person.answers[number].reset is not None:
                return person.answers[number].code
            await asyncio.sleep(0.005)
        raise AssertionError("no answer")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    runner = await house.start()
    yield house
    house.management.close()
    await runner.cleanup()
    await asyncio.sleep(0)


async def test_a_request_to_the_management_api(house: House) -> None:
    person = house.central.http2()
    number = person.ask(b"/auth/login?x=y", method=b"POST", end=False)
    person.send(data(number, b"early "), data(number, b"body", end=True))
    assert await house.code(person, number) == 200
    assert person.answers[number].body == (
        b'{"path": "/auth/login?x=y", "body": "early body", "X-Mk8s-Source-Ip": "192.0.2.7", '
        b'"Authorization": "Bearer dev"}'
    )
    assert house.central.rows() == []  # the API writes the rows of what it does


async def test_cookies_reach_the_management_api(house: House) -> None:
    """Browsers send one field for each, RFC 9113, 8.2.3. No cluster ever sees one."""
    person = house.central.http2()
    cookies = (b"cookie", b"a=1"), (b"cookie", b"__Host-mk8s-login=x")
    number = person.ask(b"/auth/device", *cookies)
    assert await house.code(person, number) == 200
    assert b'"Cookie": "a=1; __Host-mk8s-login=x"' in person.answers[number].body


async def test_connections_are_kept(house: House) -> None:
    person = house.central.http2()
    for _ in range(3):
        assert await house.code(person, person.ask(b"/auth/whoami", token=b"")) == 200
        assert len(house.management._idle) == 1


async def test_spare_connections_are_few(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mk8s_proxy.chain.api_upstream._IDLE", 1)
    person = house.central.http2()
    numbers = [person.ask(b"/auth/whoami") for _ in range(3)]
    for number in numbers:
        assert await house.code(person, number) == 200
    assert len(house.management._idle) == 1


async def test_a_forged_source_address_is_refused(house: House) -> None:
    person = house.central.http2()
    answer = person.get(b"/auth/whoami", (b"x-mk8s-source-ip", b"10.0.0.1"))
    assert answer.code == 400


async def test_http1_clients_reach_it_too(house: House) -> None:
    person = house.central.http1()
    seen = person.send(request(b"/auth/whoami"))
    for _ in range(2000):
        if b"}" in seen:
            break
        await asyncio.sleep(0.005)
        seen += person.read()
    assert seen.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"path": "/auth/whoami"' in seen


@pytest.fixture
def few_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mk8s_proxy.chain.api_upstream._UPLOADS", 3)


@pytest.mark.usefixtures("few_uploads")
async def test_attack_logins_that_never_come_make_room_for_one_that_does(house: House) -> None:
    stranger, person = house.central.http2(), house.central.http2()
    begun = [stranger.ask(b"/auth/login", method=b"POST", end=False, token=b"") for _ in range(7)]
    assert len(house.management._room) == 3
    assert [await house.code(stranger, it) for it in begun[:4]] == [408] * 4
    number = person.ask(b"/auth/login", method=b"POST", end=False)
    person.send(data(number, b"here I am", end=True))
    assert await house.code(person, number) == 200
    assert await house.code(stranger, begun[4]) == 408
    stranger.send(data(begun[5], b"late", end=True))
    assert await house.code(stranger, begun[5]) == 200
    assert len(house.management._room) == 1


@pytest.mark.usefixtures("few_uploads")
async def test_what_is_complete_or_has_gone_is_not_counted(house: House) -> None:
    person = house.central.http2()
    for _ in range(10):
        number = person.ask(b"/auth/login", method=b"POST", end=False)
        person.send(data(number, b"all", end=True))
        assert await house.code(person, number) == 200
    gone = [person.ask(b"/auth/login", method=b"POST", end=False) for _ in range(2)]
    person.send(*map(rst_stream, gone))
    assert len(house.management._room) == 0
    assert house.central.budget.used == 0


async def test_a_long_body_follows_its_request_as_it_comes(house: House) -> None:
    person = house.central.http2()
    number = person.ask(b"/roles", method=b"PUT", end=False)
    person.send(window_update(0, 1 << 20), window_update(number, 1 << 20))
    for _ in range(4):
        person.send(data(number, b"x" * 16_384))
    assert len(house.management._room) == 0
    await asyncio.sleep(0.05)
    person.send(data(number, b"x" * 16_384), data(number, b"end", end=True))
    assert await house.code(person, number) == 200
    assert len(house.management._idle) == 1
    number = person.ask(b"/roles", method=b"PUT", end=False)
    person.send(data(number, b"by a connection that is kept", end=True))
    assert await house.code(person, number) == 200
    assert len(house.management._idle) == 1


async def test_a_body_for_which_there_is_no_memory(house: House) -> None:
    house.central.budget.limit = 1000
    person = house.central.http2()
    number = person.ask(b"/roles", method=b"PUT", end=False)
    person.send(data(number, bytes(2000), end=True))
    assert await house.code(person, number) == 502
    assert len(house.management._room) == 0
    assert house.central.budget.used == 0


@pytest.mark.usefixtures("few_uploads")
async def test_attack_an_http1_login_that_never_comes_ends_its_connection(house: House) -> None:
    head = request(b"/auth/login", b"Content-Length: 5", method=b"POST")
    first, *others = [house.central.http1() for _ in range(4)]
    seen = first.send(head)
    await asyncio.sleep(0.05)
    for other in others:
        other.send(head)
    seen += first.read()
    assert seen.startswith(b"HTTP/1.1 408 ")
    assert first.transport.closed


async def test_an_api_that_is_not_there(tmp_path: Path) -> None:
    house = House(tmp_path)
    person = house.central.http2()
    kept, gone = person.ask(b"/auth/whoami"), person.ask(b"/auth/whoami", end=False)
    person.send(rst_stream(gone))
    assert await house.code(person, kept) == 502
    house.management.close()


async def test_a_client_that_goes_cancels_its_request(house: House) -> None:
    person = house.central.http2()
    number = person.ask(b"/users", end=False, method=b"POST")
    await asyncio.sleep(0.05)
    person.send(rst_stream(number))
    assert person.connection.streams == {}
    assert house.central.budget.used == 0


async def test_health() -> None:
    state = {"journal": True, "policy": True}
    stopped: list[str] = []
    checks = {name: lambda name=name: state[name] for name in state}
    async with TestClient(TestServer(create_health(checks, stopped.copy))) as client:
        live, ready = await client.get("/livez"), await client.get("/readyz")
        assert (live.status, await live.text()) == (200, "ok\n")
        assert (ready.status, await ready.text()) == (200, "[+]journal\n[+]policy\n")
        state["journal"] = False
        failed = await client.get("/readyz")
        assert (failed.status, await failed.text()) == (503, "[-]journal\n[+]policy\n")
        state["journal"] = True
        stopped.append("renewals")
        overdue = await client.get("/readyz")
        words = "[+]journal\n[+]policy\n[-]renewals\n"
        assert (overdue.status, await overdue.text()) == (503, words)
