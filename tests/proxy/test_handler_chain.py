"""The chain: the order of its doors, and that nothing passes without its row in the journal.

I1 to I3 are the invariants of the audit: every upstream request has one allow row before it, every
answer the client sees has that row, and every refusal has a row and no upstream request.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.wire import headers as internal
from mk8s_proxy.chain.handler_chain import HandlerChain
from mk8s_proxy.kube.status import not_found
from tests.support.front_door import PODS, RBAC, Central, refusal_of, request
from tests.support.memory import data, headers, rst_stream

OK = [(b":status", b"200"), (b"content-type", b"application/json"), (b"audit-id", b"up-1")]
EXEC = b"/k8s/prod" + PODS + b"/web/exec?command=sh"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: SPDY/3.1")


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def test_a_request_goes_through_every_door(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    number = person.ask(b"/k8s/prod" + PODS + b"/web", (b"accept", b"*/*"), (b"cookie", b"x=y"))
    stream, head = agent.request()
    assert head[b":method"] == b"GET"
    assert head[b":path"] == PODS + b"/web"
    assert head[b"accept"] == b"*/*"
    assert json.loads(head[internal.IDENTITY]) == {
        "user": "dev@example.com", "uid": "id-dev", "groups": ["mk8s:users"],
    }  # fmt: skip
    assert set(head) == {
        b":method", b":scheme", b":path", b"accept", internal.IDENTITY, internal.AUDIT_ID,
    }  # fmt: skip
    agent.send(headers(stream, OK), data(stream, b"{}", end=True))
    answer = person.answer(number)
    assert (answer.code, answer.body, answer.ended) == (200, b"{}", True)
    intent, outcome = central.rows()
    assert intent["stage"] == "RequestReceived"
    assert intent["auditID"] == outcome["auditID"] == head[internal.AUDIT_ID].decode()
    assert intent["annotations"]["authorization.k8s.io/decision"] == "allow"
    assert outcome["responseStatus"]["code"] == 200
    assert outcome["annotations"]["mk8s.io/upstream-audit-id"] == "up-1"
    assert outcome["annotations"]["mk8s.io/bytes-out"] == "2"
    assert (outcome["verb"], outcome["sourceIPs"]) == ("get", ["192.0.2.7"])


def test_the_bearer_token_never_leaves_central(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    person.ask(token=b"dev.prod")
    agent.peer.ticks.turn()
    assert b"dev.prod" not in bytes(agent.transport.written)
    assert b"Bearer" not in bytes(agent.transport.written)
    assert b"dev.prod" not in central.path.read_bytes()


# -- the order of the doors

DOORS: dict[str, tuple[dict[str, Any], int, str]] = {
    "the target comes before everything": (
        {"path": b"/k8s/prod/api/v1/%2e%2e/x", "token": b""}, 400, "",
    ),
    "a credential comes before the cluster": ({"path": PODS, "token": b""}, 401, "NO_CREDENTIAL"),
    "a bad credential": ({"token": b"bad"}, 401, "TOKEN_SIGNATURE"),
    "no cluster": ({"path": PODS}, 404, "NotFound"),
    "a token of another cluster": ({"token": b"dev.staging"}, 401, "TOKEN_CLUSTER"),
    "a user without a role": ({"token": b"eve"}, 403, "Forbidden"),
    "policy comes before the tunnel": (
        {"path": b"/k8s/staging/api/v1/namespaces/x/secrets"}, 403, "Forbidden",
    ),
    "no agent": ({"path": b"/k8s/staging" + PODS}, 503, "ServiceUnavailable"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "code", "reason"), DOORS.values(), ids=list(DOORS))
def test_i3_every_refusal_has_a_row_and_no_upstream_request(
    central: Central, asked: dict[str, Any], code: int, reason: str
) -> None:
    agent, person = central.agent(), central.http2()
    answer = person.get(**asked)
    assert answer.code == code
    assert answer.ended
    assert answer.status["status"] == "Failure"
    assert agent.requests() == []
    [row] = central.rows()
    assert row["stage"] == "ResponseComplete"
    assert row["responseStatus"]["code"] == code
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert refusal_of(row) == reason or not reason
    assert refusal_of(row)


def test_a_refused_login_is_audited_with_what_it_asked_for(central: Central) -> None:
    central.http2().get(token=b"bad")
    [row] = central.rows()
    assert row["verb"] == "list"
    assert row["objectRef"] == {"resource": "pods", "namespace": "shop", "apiVersion": "v1"}
    assert row["user"]["username"] == ""


def test_a_401_names_the_scheme_and_a_503_says_when(central: Central) -> None:
    person = central.http2()
    assert person.get(token=b"").fields[b"www-authenticate"] == b'Bearer realm="mk8s"'
    absent = person.get()
    assert (absent.code, absent.fields[b"retry-after"]) == (503, b"1")
    assert "no agent" in absent.status["message"]


def test_token_of_one_cluster_on_the_address_of_another(tmp_path: Path) -> None:
    central = Central(tmp_path, domain="k8s.example.com")
    agent = central.agent()
    for number, (path, token, code) in enumerate(
        [
            (b"/k8s/prod" + PODS, b"dev.staging", 401),
            (b"/k8s/prod" + PODS, b"dev.prod", 0),
            (PODS, b"dev.prod", 0),  # by the token alone
        ]
    ):
        assert central.http2().get(path, token=token).code == code, number
    person = central.http1()
    by_host = request(PODS, token=b"dev.staging").replace(b"central.", b"prod.k8s.")
    assert person.send(by_host).startswith(b"HTTP/1.1 401 ")
    assert len(agent.requests()) == 2


def test_two_credential_channels_are_one_too_many(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    answer = person.ask(
        EXEC,
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        b"Sec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.ZGV2",
    )
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert agent.requests() == []
    assert refusal_of(central.rows()[0]) == "TWO_CREDENTIALS"


ROUTES = {
    EXEC: True,
    b"/k8s/prod" + PODS + b"/web/attach": True,
    b"/k8s/prod" + PODS + b"/web/portforward": True,
    b"/k8s/prod/api/v1/namespaces/shop/services/web/proxy/": True,
    b"/k8s/prod" + PODS + b"/web": False,
    b"/k8s/prod" + PODS + b"/web/log": False,
    b"/k8s/prod/version": False,
}


@pytest.mark.parametrize(("path", "allowed"), ROUTES.items())
def test_only_some_routes_leave_http(central: Central, path: bytes, allowed: bool) -> None:
    agent, person = central.agent(), central.http1()
    answer = person.ask(path, *UPGRADE, method=b"POST")
    if allowed:
        assert agent.request()[1][internal.UPGRADE] == b"SPDY/3.1"
        assert answer == b""
    else:
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert agent.requests() == []
        assert refusal_of(central.rows()[0]) == "UPGRADE_ROUTE"


WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
WATCHER = {"name": "prod", "namespaces": ["*"], "verbs": ["watch"], "resources": ["pods"]}


@pytest.mark.parametrize("more", [(), (b"Origin: https://central.example.com",)])
def test_a_watch_over_websocket_needs_watch_and_has_an_origin(
    tmp_path: Path, more: tuple[bytes, ...]
) -> None:
    roles = {"roles": [{"name": "developer", "clusters": [WATCHER]}]}
    central = Central(tmp_path, rbac=RBAC | roles)
    agent = central.agent()
    assert central.http1().ask(b"/k8s/prod" + PODS + b"?watch=1", *WEBSOCKET, *more) == b""
    head = agent.request()[1]
    assert head[internal.UPGRADE] == b"websocket"
    assert head[internal.ORIGIN] == internal.OWN
    assert b"origin" not in head, "the client's origin stays here"


def test_attack_a_role_that_may_watch_opens_no_shell_over_websocket(tmp_path: Path) -> None:
    rule = WATCHER | {"verbs": ["get", "list", "watch"], "resources": ["*"]}
    central = Central(tmp_path, rbac=RBAC | {"roles": [{"name": "developer", "clusters": [rule]}]})
    agent = central.agent()
    for path in (EXEC, EXEC + b"&watch=1", b"/k8s/prod/api/v1/watch/namespaces/x/pods/web/exec"):
        assert central.http1().ask(path, *WEBSOCKET).startswith(b"HTTP/1.1 40"), path
    assert agent.requests() == []


def test_an_origin_is_for_watches_only(central: Central) -> None:
    agent = central.agent()
    central.http1().ask(EXEC, *WEBSOCKET)
    assert internal.ORIGIN not in agent.request()[1]


def test_upgrade_to_h2c_turns_nothing_blind(central: Central) -> None:
    agent, person = central.agent(), central.http1()
    answer = person.ask(EXEC, b"Connection: Upgrade", b"Upgrade: h2c", method=b"POST")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert agent.requests() == []


# -- the journal


def broken_disk(central: Central, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    works = [False]
    real = central.journal._file.append

    def append(rows: bytes) -> None:
        if not works[0]:
            raise OSError(28, "No space left on device")
        real(rows)

    monkeypatch.setattr(central.journal._file, "append", append)
    return works


def test_i1_nothing_is_forwarded_when_the_journal_cannot_be_written(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, person, other = central.agent(), central.http2(), central.http1()
    works = broken_disk(central, monkeypatch)
    real_read, person.read = person.read, list  # type: ignore[method-assign]  # one tick for all
    numbers = [person.ask() for _ in range(3)]
    other.connection.receive(request())
    person.read = real_read  # type: ignore[method-assign]
    answers = [person.answer(number) for number in numbers]
    assert [answer.code for answer in answers] == [503, 503, 503]
    assert answers[0].status["message"] == "the audit log cannot be written"
    assert other.read().startswith(b"HTTP/1.1 503 ")
    assert agent.requests() == []
    assert central.budget.used == 0
    works[0] = True
    number = person.ask()
    assert agent.request()
    rows = central.rows()
    assert sorted(refusal_of(row) for row in rows) == ["", *["AUDIT_UNAVAILABLE"] * 4]
    assert person.answer(number).code == 0


def test_i1_a_journal_that_raises_counts_as_unwritten(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit() -> bool:
        raise RuntimeError("a bug")

    agent, person = central.agent(), central.http2()
    monkeypatch.setattr(central.journal, "commit", commit)
    assert person.get().code == 503
    assert agent.requests() == []


def test_i1_the_row_is_on_disk_before_the_head_leaves(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    seen: list[int] = []

    def write(_: bytes) -> bool:
        seen.append(len(central.path.read_text().splitlines()))
        return False

    agent.transport.write = write  # type: ignore[method-assign]
    person.ask()
    assert seen == [1]


def test_i2_the_rows_of_a_tick_are_one_write(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, person = central.agent(), central.http2()
    writes: list[bytes] = []
    real = central.journal._file.append
    monkeypatch.setattr(
        central.journal._file, "append", lambda rows: (writes.append(rows), real(rows))[1]
    )
    head = [
        (b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"c"),
        (b":path", b"/k8s/prod" + PODS), (b"authorization", b"Bearer dev"),
    ]  # fmt: skip
    person.send(*[headers(number, head, end=True) for number in (1, 3, 5)])
    assert [rows.count(b"\n") for rows in writes] == [3]
    assert len(agent.requests()) == 3


def test_refusals_at_the_end_of_a_tick_are_written_in_it(central: Central) -> None:
    """On an idle central the row of the last refusal waited for the next request."""
    agent, person = central.agent(), central.http2()
    real, person.read = person.read, list  # type: ignore[method-assign]
    number = person.ask()
    agent.session.draining = True
    person.read = real  # type: ignore[method-assign]
    assert person.answer(number).code == 503
    assert "just disconnected" in person.answer(number).status["message"]
    lines = central.path.read_text().splitlines()  # no further tick
    assert [json.loads(line)["stage"] for line in lines] == ["RequestReceived", "ResponseComplete"]


# -- whoever goes meanwhile


def test_a_client_that_goes_in_the_same_tick(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    real, person.read = person.read, list  # type: ignore[method-assign]
    number = person.ask(end=False, method=b"POST")
    person.send(data(number, b"body"), rst_stream(number))
    person.read = real  # type: ignore[method-assign]
    person.read()
    assert agent.requests() == []
    assert central.budget.used == 0
    assert [row["stage"] for row in central.rows()] == ["RequestReceived", "ResponseComplete"]


def test_a_body_waits_until_the_row_is_written(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    real, person.read = person.read, list  # type: ignore[method-assign]
    number = person.ask(method=b"POST", end=False)
    person.send(data(number, b'{"kind":"Pod"}', end=True))
    assert agent.transport.take() == b""
    person.read = real  # type: ignore[method-assign]
    person.read()
    seen = agent.requests()
    assert [(frame.kind, frame.end) for frame in seen] == [("HEADERS", False), ("DATA", True)]
    assert central.budget.used == 0


# -- doors that break


def test_an_exception_in_a_door_refuses(central: Central, caplog: pytest.LogCaptureFixture) -> None:
    agent, person = central.agent(), central.http2()
    central.tokens.broken = True
    answer = person.get()
    assert answer.code == 500
    assert "broken" not in answer.status["message"]
    assert agent.requests() == []
    assert refusal_of(central.rows()[0]) == "INTERNAL"
    assert "the authenticator is broken" in caplog.text


def test_an_exception_behind_the_doors_leaves_nothing(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, person = central.agent(), central.http2()

    def fail(*_args: object) -> bytes:
        raise RuntimeError("a bug")

    monkeypatch.setattr(central.journal, "intent", fail)
    number = person.ask(end=False, method=b"POST")
    person.send(data(number, bytes(1000)))
    assert person.answer(number).code == 500
    person.send(data(number, bytes(1000), end=True))
    assert agent.requests() == []
    assert central.budget.used == 0
    assert [row["stage"] for row in central.rows()] == ["ResponseComplete"]


def test_a_stale_policy_decides_nothing(central: Central) -> None:
    agent, person = central.agent(), central.http2()
    central.policies.is_fresh = False
    answer = person.get()
    assert (answer.code, answer.fields[b"retry-after"]) == (503, b"5")
    assert agent.requests() == []


def test_an_equal_request_is_decided_anew_for_another_policy(central: Central) -> None:
    central.agent()
    person = central.http2()
    asked: list[Any] = []

    class Asked:
        version, edition = 1, (1, 0)

        def cluster_id(self, name: str) -> str:
            return real.cluster_id(name)

        def decide_request(self, *args: Any) -> Any:
            asked.append(args)
            return real.decide_request(*args)

    real = central.policies.current
    counting: Any = Asked()
    central.policies.current = counting
    person.ask()
    person.ask()
    assert len(asked) == 1
    counting.edition = (2, 0)
    person.ask()
    assert len(asked) == 2


def test_attack_one_token_that_asks_ever_new_things(central: Central) -> None:
    central.agent()
    person = central.http2()
    central.policies.current._answers.most_entries = 5
    for number in range(20):
        person.ask(b"/k8s/prod" + PODS + b"/p%d" % number)
        assert len(central.policies.current._answers) <= 5


# -- central's own address


def test_the_management_api_is_one_more_upstream(central: Central) -> None:
    person = central.http2()
    assert person.get(b"/auth/whoami").code == 0
    [exchange] = central.managed
    assert exchange.head.target == b"/auth/whoami"


def test_the_management_api_is_behind_the_strict_target_too(central: Central) -> None:
    person = central.http2()
    assert person.get(b"/auth/%2e%2e/clusters").code == 400
    assert person.get(b"/auth/login", (b"impersonate-user", b"admin")).code == 403
    assert central.managed == []


def test_an_outcome_is_written_once(central: Central) -> None:
    central.agent()
    person = central.http2()
    person.ask(b"/auth/x")
    [exchange] = central.managed
    exchange.settled = False
    HandlerChain.refuse(central.chain, exchange, not_found("gone"))
    central.chain.finish(exchange)
    assert len(central.outcomes()) == 1
