"""Requests that recur: an equal one follows the first, and never further than a new one would go.

What is remembered must not outlive a logout, a change of the policy or of the HPACK table.
"""

import json
from pathlib import Path
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.listener import recurring
from mk8s_proxy.listener.recurring import Admission, Recurring, RecurringRequests
from mk8s_proxy.listener.request_head import read_http2_head
from tests.support.front_door import (
    PODS,
    RBAC,
    Agent,
    Central,
    Http2Person,
    policy,
    refusal_of,
)
from tests.support.memory import data, head, headers, stateless

PATH = b"/k8s/prod" + PODS


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


@pytest.fixture
def agent(central: Central) -> Agent:
    return central.agent()


@pytest.fixture
def person(central: Central) -> Http2Person:
    return central.http2()


def known(central: Central) -> int:
    return len(central.config.recurring)


def serve(agent: Agent) -> dict[bytes, bytes]:
    """Answers the one request that came; its fields."""
    number, fields = agent.request()
    agent.send(headers(number, [(b":status", b"200"), (b"content-length", b"0")], end=True))
    return fields


def asked(central: Central) -> int:
    """How often a token was looked at."""
    return len(central.tokens.asked)


def without_id(fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in fields.items() if name != b"mk8s-audit-id"}


# -- an equal request follows


def test_an_equal_request_follows_with_an_id_and_rows_of_its_own(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask()
    first = serve(agent)
    person.ask()
    second = serve(agent)
    assert asked(central) == 1
    assert without_id(first) == without_id(second)
    assert first[b"mk8s-audit-id"] != second[b"mk8s-audit-id"]
    rows = central.rows()
    assert [row["stage"] for row in rows] == ["RequestReceived", "ResponseComplete"] * 2
    assert [rows[0]["auditID"], rows[2]["auditID"]] == [
        first[b"mk8s-audit-id"].decode(),
        second[b"mk8s-audit-id"].decode(),
    ]
    own = ("auditID", "requestReceivedTimestamp", "stageTimestamp")
    assert {**rows[0], **dict.fromkeys(own)} == {**rows[2], **dict.fromkeys(own)}


def test_the_client_gets_its_own_answer(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    numbers = [person.ask(), person.ask(), person.ask()]
    for seen in [frame for frame in agent.requests() if frame.kind == "HEADERS"]:
        agent.send(headers(seen.stream, [(b":status", b"404")], end=True))
    assert [person.answer(number).code for number in numbers] == [404] * 3
    assert known(central) == 1


def test_a_body_of_the_promised_length(central: Central, agent: Agent, person: Http2Person) -> None:
    length = (b"content-length", b"4")
    for _ in range(2):
        number = person.ask(PATH, length, method=b"POST", end=False)
        person.send(data(number, b"abcd", end=True))
        seen = agent.requests()
        assert [frame.kind for frame in seen] == ["HEADERS", "DATA"]
        agent.send(headers(seen[0].stream, [(b":status", b"201")], end=True))
    assert known(central) == 1
    number = person.ask(PATH, length, method=b"POST", end=False)
    person.send(data(number, b"abcde", end=True))
    assert person.answer(number).reset is not None


def test_the_row_names_the_address_of_its_own_connection(central: Central, agent: Agent) -> None:
    for address in ("192.0.2.7", "198.51.100.9"):
        person = central.http2()
        person.connection._source_ip = address
        person.ask()
        serve(agent)
    assert asked(central) == 1
    assert [row["sourceIPs"] for row in central.outcomes()] == [["192.0.2.7"], ["198.51.100.9"]]


def test_http1(central: Central, agent: Agent) -> None:
    person = central.http1()
    for _ in range(3):
        assert person.ask() == b""
        serve(agent)
        assert person.read().startswith(b"HTTP/1.1 200 OK\r\n")
    assert asked(central) == 1
    assert len(central.outcomes()) == 3


def test_http1_drains_although_the_head_is_known(central: Central, agent: Agent) -> None:
    person = central.http1()
    person.ask()
    serve(agent)
    person.read()
    person.ask()
    person.connection.drain()
    serve(agent)
    assert b"connection: close" in person.read()
    assert person.transport.closed


# -- and no further than a new one would go


def test_a_revoked_token_follows_nobody(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask()
    serve(agent)
    central.tokens.stamp += 1
    central.tokens.authenticate = refuse_all  # type: ignore[method-assign]
    answer = person.get()
    assert answer.code == 401
    assert agent.requests() == []
    assert refusal_of(central.outcomes()[-1]) == "TOKEN_REVOKED"


def refuse_all(authorization: bytes) -> Any:
    raise Unauthenticated("TOKEN_REVOKED", "logged out: run mk8s login")


def test_a_withdrawn_role_ends_what_was_remembered(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask()
    serve(agent)
    poorer = policy({"roles": [], "users": []})
    poorer.version = 2
    central.policies.current = poorer
    assert person.get().status["reason"] == "Forbidden"
    assert agent.requests() == []
    row = central.outcomes()[-1]
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"


def test_a_new_role_is_named_in_the_row(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask()
    serve(agent)
    renamed: dict[str, Any] = {
        "roles": [RBAC["roles"][0] | {"name": "renamed"}],
        "users": [{"email": "dev@example.com", "roles": ["renamed"]}],
    }
    central.policies.current = policy(renamed)
    central.policies.current.version = 2
    for _ in range(2):
        person.ask()
        serve(agent)
    reasons = [row["annotations"]["authorization.k8s.io/reason"] for row in central.outcomes()]
    assert "developer" in reasons[0]
    assert "renamed" in reasons[1]
    assert reasons[1] == reasons[2]


def test_a_policy_too_old_to_decide_lets_nobody_follow(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask()
    serve(agent)
    central.policies.is_fresh = False
    assert person.get().code == 503
    assert agent.requests() == []


def test_a_question_that_raises_is_a_refusal(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask()
    serve(agent)

    def broken(identity: Any, stamp: int) -> bool:
        raise RuntimeError("the authenticator is broken")

    central.tokens.vouches = broken  # type: ignore[method-assign]
    assert person.get().code == 500
    assert agent.requests() == []
    assert refusal_of(central.outcomes()[-1]) == "INTERNAL"


def test_a_cluster_without_an_agent(central: Central, agent: Agent, person: Http2Person) -> None:
    person.ask()
    serve(agent)
    central.registry.remove(agent.session)
    answer = person.get()
    assert answer.code == 503
    assert answer.fields[b"retry-after"] == b"1"
    row = central.outcomes()[-1]
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert row["user"]["username"] == "dev@example.com"
    again = central.agent()
    person.ask()
    assert serve(again)


def test_what_one_refusal_says_is_not_said_of_the_next(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    """The facts that equal requests share are not changed by the end of one of them."""
    person.ask()
    serve(agent)
    central.registry.remove(agent.session)
    person.get()
    again = central.agent()
    person.ask()
    serve(again)
    decisions = [row["annotations"]["authorization.k8s.io/decision"] for row in central.outcomes()]
    assert decisions == ["allow", "forbid", "allow"]


def test_a_journal_that_cannot_be_written_stops_known_requests_too(
    central: Central, agent: Agent, person: Http2Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    person.ask()
    serve(agent)
    with monkeypatch.context() as broken:
        broken.setattr(central.journal, "commit", lambda: False)
        assert person.get().code == 503
    assert agent.requests() == []


# -- the table of the connection


def literal(index: int, value: bytes) -> bytes:
    return bytes((index, len(value))) + value


START = b"\x82\x87" + literal(1, b"central.example.com") + literal(4, PATH)
"""A GET of pods, all of it literals or of the static table; the credential is missing."""
REFERENCE = START + b"\xbe"
"""With the newest entry of the table (62) as its credential."""


def adding(token: bytes) -> bytes:
    """A request that adds its credential to the table (RFC 7541, 6.2.1)."""
    return START + literal(0x40 | 23, b"Bearer " + token)


@pytest.fixture
def two(tmp_path: Path) -> Central:
    """A central where dev and eve may both list pods."""
    users = [{"email": f"{name}@example.com", "roles": ["developer"]} for name in ("dev", "eve")]
    return Central(tmp_path, rbac=RBAC | {"users": users})


def follow(person: Http2Person, agent: Agent, block: bytes) -> str:
    """Sends a request; as whom it reached the cluster."""
    number, person.next = person.next, person.next + 2
    person.send(head(number, block, end=True))
    user: str = json.loads(serve(agent)[b"mk8s-identity"])["user"]
    return user


def test_the_same_bytes_are_another_user_once_the_table_has_moved(two: Central) -> None:
    agent, person = two.agent(), two.http2()
    for name in ("dev", "eve", "dev"):
        email = f"{name}@example.com"
        blocks = [adding(name.encode()), REFERENCE, REFERENCE]
        assert [follow(person, agent, block) for block in blocks] == [email] * 3
    assert known(two) == 3
    users = [row["user"]["username"] for row in two.outcomes()]
    assert users == [f"{name}@example.com" for name in ("dev", "eve", "dev") for _ in range(3)]


def test_the_same_bytes_are_another_user_on_another_connection(two: Central) -> None:
    agent = two.agent()
    people = {name: two.http2() for name in ("dev", "eve")}
    for name, person in people.items():
        follow(person, agent, adding(name.encode()))
    for _ in range(2):
        for name, person in people.items():
            assert follow(person, agent, REFERENCE) == f"{name}@example.com"


def test_the_table_moves_with_a_request_that_is_refused(two: Central) -> None:
    agent, person = two.agent(), two.http2()
    follow(person, agent, adding(b"dev"))
    assert follow(person, agent, REFERENCE) == "dev@example.com"
    person.send(head(99, b"\x83" + adding(b"eve")[1:] + literal(0, b"") + b"\x00", end=True))
    person.next = 101
    assert follow(person, agent, REFERENCE) == "eve@example.com"


def test_trailers_move_the_table_too(two: Central) -> None:
    agent, person = two.agent(), two.http2()
    follow(person, agent, adding(b"dev"))
    assert follow(person, agent, REFERENCE) == "dev@example.com"
    number = person.ask(PATH, method=b"POST", end=False)
    person.send(head(number, literal(0x40 | 23, b"Bearer eve"), end=True))
    serve(agent)
    assert follow(person, agent, REFERENCE) == "eve@example.com"


def test_a_known_block_as_trailers_begins_no_request(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask()
    serve(agent)
    number = person.ask(method=b"POST", end=False)
    block = stateless(
        [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"central.example.com"),
            (b":path", PATH),
            (b"authorization", b"Bearer dev"),
        ]
    )
    person.send(head(number, block, end=True))
    [seen] = [frame for frame in agent.requests() if frame.kind == "HEADERS"]
    assert dict(seen.value)[b":method"] == b"POST"


def test_a_head_with_a_body_to_come_is_not_one_without(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    """GET with a body is refused, however well the same bytes without one are known."""
    person.ask()
    serve(agent)
    assert person.answer(person.ask(end=False)).code == 400
    assert agent.requests() == []


# -- what is not remembered

WATCH = PATH + b"?watch=1"
REVIEW = b"/k8s/prod/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.mark.parametrize(
    ("path", "options"),
    [
        (WATCH, {}),
        (b"/k8s/prod/api/v1/namespaces/shop/secrets", {}),
        (PATH, {"token": b"bad"}),
        (PATH, {"token": b""}),
        (b"/k8s/prod/a%2Fb", {}),
        (b"/api/mk8s/v1/whoami", {}),
        (REVIEW, {"method": b"POST", "end": False}),
    ],
)
def test_memory_is_for_plain_requests_that_were_let_through(
    path: bytes, options: dict[str, Any], central: Central, agent: Agent, person: Http2Person
) -> None:
    person.ask(path, **options)
    assert known(central) == 0


def test_impersonation_is_decided_each_time(
    central: Central, agent: Agent, person: Http2Person
) -> None:
    for _ in range(2):
        answer = person.get(PATH, (b"impersonate-user", b"eve@example.com"))
        assert answer.code == 403
    assert known(central) == 0


@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: close"],
        [b"Content-Length: 3"],
        [b"Transfer-Encoding: chunked"],
    ],
)
def test_http1_requests_that_are_more_than_their_head(
    lines: list[bytes], central: Central, agent: Agent
) -> None:
    method = b"GET" if lines[0].startswith(b"Connection") else b"POST"
    central.http1().ask(PATH, *lines, method=method)
    assert len(agent.requests()) == 1
    assert known(central) == 0


def test_an_upgrade_is_decided_each_time(central: Central, agent: Agent) -> None:
    lines = [b"Connection: Upgrade", b"Upgrade: SPDY/3.1"]
    path = PATH + b"/web/exec?command=ls"
    central.http1().ask(path, *lines, method=b"POST")
    assert len(agent.requests()) == 1
    assert known(central) == 0


# -- what the memory costs


def admitted() -> Recurring:
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h"), (b":path", b"/")]
    recurring = Recurring(read_http2_head(fields, True))
    unknown: Any = None
    recurring.admission = Admission(*[unknown] * 8)
    return recurring


def test_memory_exhaustion_by_ever_new_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "_KEPT", 8)
    memory = RecurringRequests()
    for number in range(100):
        memory.keep(b"%d" % number, 2, admitted())
        assert len(memory) <= 8
    assert memory.find(b"99") is not None


def test_memory_exhaustion_by_long_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "_ALL_BYTES", 100_000)
    memory = RecurringRequests()
    memory.keep(b"endless", recurring._KEPT_BYTES + 1, admitted())
    assert len(memory) == 0
    most = 100_000 // (4000 + recurring._ADMISSION_BYTES)
    for number in range(100):
        memory.keep(b"%d" % number, 4000, admitted())
        assert len(memory) <= most


def test_memory_is_not_for_strangers() -> None:
    memory = RecurringRequests()
    refused = admitted()
    refused.admission = None
    memory.keep(b"refused", 7, refused)
    assert len(memory) == 0


# -- remembering changes nothing that anybody can see

TOKENS = st.sampled_from([b"dev", b"eve", b"bad", b"dev.prod", b"dev.staging"])
PATHS = st.sampled_from(
    [PATH, PATH + b"/a", WATCH, b"/k8s/prod/api/v1/nodes", b"/k8s/staging" + PODS, b"/version"]
)
REQUESTS = st.tuples(st.just("ask"), TOKENS, PATHS, st.booleans())
EVENTS = st.one_of(
    REQUESTS, REQUESTS, REQUESTS,
    st.tuples(st.just("policy"), st.booleans()),
    st.tuples(st.just("stamp")),
    st.tuples(st.just("fresh"), st.booleans()),
)  # fmt: skip


class World:
    """A central with one client, whose encoder keeps a table."""

    def __init__(self, folder: Path, *, remembers: bool) -> None:
        self.central = Central(folder, rbac=RBAC)
        if not remembers:
            memory: Any = self.central.config.recurring
            memory.find = lambda key: None
        self.agents = [self.central.agent(), self.central.agent("staging")]
        self.person = self.central.http2()
        self.encoder = hpack.Encoder()

    def happen(self, event: tuple[Any, ...]) -> object:
        """Lets something happen; what can be seen of it."""
        match event:
            case ("ask", token, path, sensitive):
                return self.ask(token, path, sensitive=sensitive)
            case ("policy", full):
                version = self.central.policies.current.version + 1
                current = policy(RBAC if full else {"roles": [], "users": []})
                current.version = version
                self.central.policies.current = current
            case ("stamp",):
                self.central.tokens.stamp += 1
            case ("fresh", yes):
                self.central.policies.is_fresh = yes
        return None

    def ask(self, token: bytes, path: bytes, *, sensitive: bool) -> object:
        fields = [
            (b":method", b"GET", False),
            (b":scheme", b"https", False),
            (b":authority", b"central.example.com", False),
            (b":path", path, sensitive),
            (b"authorization", b"Bearer " + token, sensitive),
        ]
        number, self.person.next = self.person.next, self.person.next + 2
        self.person.send(head(number, bytes(self.encoder.encode(fields)), end=True))
        reached = []
        for agent in self.agents:
            for seen in agent.requests():
                if seen.kind == "HEADERS":
                    reached.append(without_id(dict(seen.value)))
                    agent.send(headers(seen.stream, [(b":status", b"204")], end=True))
        answer = self.person.answer(number)
        return reached, answer.code, answer.body

    def rows(self) -> list[dict[str, Any]]:
        rows = self.central.rows()
        for row in rows:
            for name in ("auditID", "requestReceivedTimestamp", "stageTimestamp"):
                del row[name]
            row["annotations"].pop("mk8s.io/duration-ms", None)
        return rows


@settings(deadline=None)
@given(events=st.lists(EVENTS, max_size=25))
def test_with_and_without_memory_all_is_the_same(
    events: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    worlds = [
        World(tmp_path_factory.mktemp("world"), remembers=remembers) for remembers in (True, False)
    ]
    for event in [*events, *events]:
        first, second = [world.happen(event) for world in worlds]
        assert first == second
    assert worlds[0].rows() == worlds[1].rows()
    for world in worlds:
        world.central.journal.close()


def test_heads_of_expired_tokens_are_gone_within_a_minute(central: Central, agent: Agent) -> None:
    for token in (b"dev", b"dev.prod"):
        person = central.http2()
        person.ask(token=token)
        serve(agent)
    memory = central.config.recurring
    for _ in range(60):
        memory.second(0.0)
    assert len(memory) == 2
    for _ in range(60):
        memory.second(2e12)
    assert len(memory) == 0
