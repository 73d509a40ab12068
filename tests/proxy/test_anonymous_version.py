"""`GET /version` of a cluster without a credential: off by default, little, the cluster decides."""

from pathlib import Path

import pytest

from mk8s_agent.wire import headers as internal
from mk8s_proxy.chain.anonymous import BURST, AnonymousVersion
from mk8s_proxy.listener.http2 import UNAUTHENTICATED_REQUESTS
from mk8s_proxy.settings.model import Settings, SettingsError
from tests.support.front_door import Agent, Central, refusal_of
from tests.support.memory import data, headers

VERSION = b"/k8s/prod/version"
OK = [(b":status", b"200"), (b"content-type", b"application/json")]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def central(tmp_path: Path, clock: Clock) -> Central:
    central = Central(tmp_path)
    central.chain.anonymous = AnonymousVersion(clock)
    return central


def reply(agent: Agent) -> dict[bytes, bytes]:
    stream, head = agent.request()
    agent.send(headers(stream, OK), data(stream, b"{}", end=True))
    return head


@pytest.mark.parametrize("path", [VERSION, VERSION + b"/", VERSION + b"?timeout=32s"])
def test_the_cluster_is_asked_as_nobody(central: Central, path: bytes) -> None:
    agent, person = central.agent(), central.http2()
    stream = person.ask(path, (b"accept", b"application/json"), (b"x-mine", b"y"), token=b"")
    head = reply(agent)
    assert head[internal.IDENTITY] == internal.ANONYMOUS
    assert head[b":path"] == path.removeprefix(b"/k8s/prod")
    assert head[b"accept"] == b"application/json"
    assert b"x-mine" not in head
    assert person.answer(stream).code == 200
    intent, outcome = central.rows()
    assert (intent["stage"], outcome["responseStatus"]["code"]) == ("RequestReceived", 200)
    assert outcome["user"] == {"username": ""}
    assert outcome["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert outcome["annotations"]["mk8s.io/cluster"] == "prod"
    assert len(central.chain.departures.shares) == 0


def test_head_on_http1(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    person.ask(VERSION, method=b"HEAD", token=b"")
    stream, _ = agent.request()
    agent.send(headers(stream, OK, end=True))
    assert person.read().startswith(b"HTTP/1.1 200 ")
    assert not person.connection.authenticated


def test_what_the_cluster_refuses_is_refused(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask(VERSION, token=b"")
    stream, _ = agent.request()
    agent.send(headers(stream, [(b":status", b"403")], end=True))
    assert person.answer(number).code == 403


@pytest.mark.parametrize(
    "path",
    [
        b"/k8s/prod/version/x",
        b"/k8s/prod/versions",
        b"/k8s/prod/version?a=b",
        b"/k8s/prod/%76ersion",
        b"/k8s/prod/version/../api",
        b"/k8s/prod/livez",
        b"/k8s/prod/api",
        b"/version",
    ],
)
def test_attack_nothing_else_is_asked_without_a_credential(central: Central, path: bytes) -> None:
    agent, person = central.agent(), central.http2()
    assert person.get(path, token=b"").code in (400, 401)
    assert agent.requests() == []


def test_attack_other_ways_to_ask(central: Central) -> None:
    agent = central.agent()
    assert central.http2().get(VERSION, method=b"DELETE", token=b"").code == 401
    assert central.http2().get(VERSION, token=b"bad").code == 401
    assert central.http2().get(VERSION, (b"impersonate-user", b"a"), token=b"").code == 401
    assert central.http2().get(VERSION, end=False, token=b"").code == 400
    body = central.http1().ask(VERSION, b"Content-Length: 2", token=b"")
    assert body.startswith(b"HTTP/1.1 401 ")
    upgrade = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1")
    assert central.http1().ask(VERSION, *upgrade, token=b"").startswith(b"HTTP/1.1 401 ")
    assert agent.requests() == []


def test_it_is_off_unless_somebody_turns_it_on(tmp_path: Path) -> None:
    central = Central(tmp_path)
    central.agent()
    assert central.http2().get(VERSION, token=b"").code == 401
    assert Settings(data_dir=tmp_path).anonymous_version == "off"
    with pytest.raises(SettingsError, match="anonymous_version"):
        Settings(data_dir=tmp_path, anonymous_version="maybe")


def test_a_login_is_still_a_login(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    person.ask(VERSION)
    assert agent.request()[1][internal.IDENTITY] != internal.ANONYMOUS


def test_attack_strangers_together_ask_a_bounded_number(central: Central, clock: Clock) -> None:
    agent, person = central.agent(), central.http2()
    for _ in range(BURST):
        assert person.get(VERSION, token=b"").code == 0
    other = central.http1()
    refused = other.ask(VERSION, token=b"")
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 1\r\n" in refused
    assert person.get().code == 0  # whoever has a login goes on
    assert len([seen for seen in agent.requests() if seen.kind == "HEADERS"]) == BURST + 1
    clock.now += 2
    assert [central.http2().get(VERSION, token=b"").code for _ in range(3)] == [0, 0, 429]
    clock.now += 1e6
    codes = [central.http2().get(VERSION, token=b"").code for _ in range(BURST + 1)]
    assert codes == [0] * BURST + [429]
    assert {refusal_of(row) for row in central.outcomes()} == {"TooManyRequests"}


def test_attack_a_stranger_has_so_many_requests_on_a_connection(
    central: Central, clock: Clock
) -> None:
    agent, person = central.agent(), central.http1()
    for _ in range(UNAUTHENTICATED_REQUESTS):
        clock.now += 10
        person.ask(VERSION, token=b"")
        reply(agent)
        answer = person.read()
    assert b"connection: close\r\n" in answer
    assert person.transport.closed


def test_no_agent_no_answer(central: Central) -> None:
    assert central.http2().get(VERSION, token=b"").code == 503
    assert central.http2().get(b"/k8s/unknown/version", token=b"").code == 503
