"""Attacks by a delegation on its way through the chain: it stays within its narrowing."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.wire import headers as internal
from mk8s_proxy.authz.narrowing import parse_narrowing
from mk8s_proxy.authz.policy import PolicySource, parse_rbac
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.identity import access_token
from mk8s_proxy.identity.access_token import SigningKey, SigningKeys, TokenAuthenticator
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.identity import Identity, Login
from mk8s_proxy.identity.lost_groups import lost_ids
from tests.support.front_door import Agent, Answer, Central, Http2Person, refusal_of
from tests.support.memory import data, headers

ISSUER = "https://central.example.com"
KEYS = SigningKeys([SigningKey.generate()])
RBAC: dict[str, Any] = {
    "roles": [
        {
            "name": "owner",
            "clusters": [
                {
                    "name": "*",
                    "namespaces": ["*"],
                    "verbs": ["*"],
                    "resources": ["*", "*/*", "serviceaccounts/token", "nodes/proxy"],
                    "impersonate": {"users": ["*"], "groups": ["*"]},
                }
            ],
        }
    ],
    "users": [
        {"email": "ann@example.com", "roles": ["owner"]},
        {"email": "bob@example.com", "roles": ["owner"]},
    ],
}
SHOP = b"/k8s/prod/api/v1/namespaces/shop/pods"
ALL = b"/k8s/prod/api/v1/pods"
LONG = 3600


class Person:
    """Somebody with a user's record."""

    def __init__(self, name: str) -> None:
        self.id = f"id-{name}"
        self.email = f"{name}@example.com"
        self.name = name
        self.token_epoch = 0


class House:
    """Central with an agent, Ann who may do everything, and whom she delegates to."""

    def __init__(self, folder: Path) -> None:
        self.central = Central(folder, rbac=RBAC)
        self.directory = UserDirectory()
        self.directory.replace({"id-ann": 0, "id-bob": 0})
        self.authenticator = TokenAuthenticator(KEYS, issuer=ISSUER, valid_epochs=self.directory)
        chain: Any = self.central.chain
        chain._authenticator = self.authenticator
        self.agent: Agent = self.central.agent()
        self.other: Agent = self.central.agent("staging")
        self.watched = 0

    def token(self, login: str = "child", **parts: list[str]) -> bytes:
        """An access token of a delegation, or of Ann herself."""
        narrowing = parse_narrowing(parts).text() if parts else ""
        token, _ = access_token.mint(
            KEYS,
            user=Person("ann"),
            cluster=None,
            issuer=ISSUER,
            lifetime=900,
            now=time.time(),
            login=Login(
                login, time.time() + LONG, (), narrowing, "robot/1234" if narrowing else ""
            ),
        )
        return token.encode()

    def refused(self, token: bytes, path: bytes, *more: Any, **options: Any) -> Answer:
        """A request that must not reach any cluster."""
        answer = self.central.http2().get(path, *more, token=token, **options)
        assert answer.code == 403, answer
        assert self.agent.requests() == self.other.requests() == []
        return answer

    def answered(self, token: bytes, path: bytes, document: Any) -> Any:
        """What a client gets of a cluster's answer."""
        client = self.central.http2()
        number = client.ask(path, token=token)
        stream, _ = self.agent.request()
        body = json.dumps(document).encode()
        fields = [(b":status", b"200"), (b"content-type", b"application/json")]
        self.agent.send(headers(stream, fields), data(stream, body, end=True))
        answer = client.answer(number)
        assert answer.code == 200
        return json.loads(answer.body)

    def watch(self, token: bytes, path: bytes = SHOP) -> tuple[Http2Person, int]:
        client = self.central.http2()
        number = client.ask(path + b"?watch=1", token=token)
        self.watched, _ = self.agent.request()
        fields = [(b":status", b"200"), (b"content-type", b"application/json")]
        self.agent.send(headers(self.watched, fields))
        return client, number

    def end(self, *logins: str) -> None:
        """What `app` does within a second, and two seconds."""
        for login in logins:
            self.authenticator.revoke(login, time.time() + 900)
        for credential in self.authenticator.take_revoked():
            self.central.chain.long_running.recheck(credential)
        for _ in range(2):
            self.central.chain.long_running.second(time.time())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def pods(*names: str) -> dict[str, Any]:
    items = [
        {"metadata": {"namespace": name.partition("/")[0], "name": name.partition("/")[2]}}
        for name in names
    ]
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}


def shown(document: Any) -> list[str]:
    return [f"{it['metadata']['namespace']}/{it['metadata']['name']}" for it in document["items"]]


def test_what_both_allow_passes_and_names_both(house: House) -> None:
    assert shown(house.answered(house.token(verbs=["list"]), SHOP, pods("shop/a"))) == ["shop/a"]
    intent, outcome = house.central.rows()
    for row in (intent, outcome):
        assert row["user"]["username"] == "ann@example.com"
        assert row["annotations"]["mk8s.io/delegate"] == "robot/1234"
        reason = row["annotations"]["authorization.k8s.io/reason"]
        assert reason == "allowed by role owner, rule 1, within the delegation"
    house.answered(house.token("own"), SHOP, pods())
    assert "mk8s.io/delegate" not in house.central.rows()[-1]["annotations"]


def test_attack_a_delegation_acts_as_somebody_who_may_more(house: House) -> None:
    token = house.token(verbs=["*"], resources=["*", "*/*", "users", "groups"])
    acting = (b"impersonate-user", b"bob@example.com")
    answer = house.refused(token, SHOP, acting)
    assert answer.status["message"].endswith(
        "the delegation allows * of *, */*, groups, users, and no more"
    )
    house.refused(token, SHOP, (b"impersonate-user", b"ann@example.com"))
    own = house.central.http2()
    own.ask(SHOP, acting, token=house.token("own"))
    assert house.agent.request()


def test_attack_a_list_of_all_namespaces(house: House) -> None:
    token = house.token(namespaces=["shop"])
    found = house.answered(token, ALL, pods("shop/a", "other/b", "shop2/c"))
    assert shown(found) == ["shop/a"]
    assert shown(house.answered(house.token("own"), ALL, pods("other/b"))) == ["other/b"]
    house.refused(token, b"/k8s/prod/api/v1/namespaces/other/pods")
    house.refused(token, b"/k8s/prod/api/v1/nodes")


def test_attack_another_cluster(house: House) -> None:
    token = house.token(clusters=["prod"])
    house.answered(token, SHOP, pods())
    house.refused(token, SHOP.replace(b"prod", b"staging"))
    house.refused(token, b"/k8s/staging/version")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"POST", b"/api/v1/namespaces/shop/pods"),
        (b"DELETE", b"/api/v1/namespaces/shop/pods/a"),
        (b"DELETE", b"/api/v1/namespaces/shop/pods"),
        (b"PATCH", b"/api/v1/namespaces/shop/pods/a"),
        (b"POST", b"/api/v1/namespaces/shop/pods/a/eviction"),
        (b"POST", b"/api/v1/namespaces/shop/serviceaccounts/default/token"),
        (b"POST", b"/apis/certificates.k8s.io/v1/certificatesigningrequests"),
        (b"GET", b"/api/v1/namespaces/shop/secrets"),
        (b"GET", b"/api/v1/namespaces/shop/pods/a/proxy/"),
        (b"GET", b"/api/v1/nodes/n1/proxy/run"),
        (b"POST", b"/api/v1/namespaces/shop/pods/a/exec?command=id"),
        (b"GET", b"/api/v1/namespaces/shop/pods/a/exec?command=id"),
        (b"GET", b"/metrics"),
        (b"GET", b"/logs/kubelet.log"),
    ],
)
def test_attack_a_delegation_that_reads_does_more(house: House, method: bytes, path: bytes) -> None:
    house.refused(house.token(verbs=["get", "list", "watch", "logs"]), b"/k8s/prod" + path,
                  method=method)  # fmt: skip


@pytest.mark.parametrize("what", [b"exec", b"attach", b"portforward"])
def test_attack_a_delegation_upgrades_a_request(house: House, what: bytes) -> None:
    token = house.token(resources=["*", "*/*", "pods/" + what.decode()], verbs=["get", "list"])
    client = house.central.http1()
    client.send(
        b"GET %b/a/%b?command=id HTTP/1.1\r\nHost: central.example.com\r\n"
        b"Authorization: Bearer %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n" % (SHOP, what, token)
    )
    assert house.agent.requests() == []
    row = house.central.outcomes()[-1]
    assert row["responseStatus"]["code"] == 403
    assert row["annotations"]["mk8s.io/delegate"] == "robot/1234"


def test_a_delegation_of_exec_upgrades_one(house: House) -> None:
    token = house.token(resources=["pods"], verbs=["exec"])
    client = house.central.http1()
    client.send(
        b"GET %b/a/exec?command=id HTTP/1.1\r\nHost: central.example.com\r\n"
        b"Authorization: Bearer %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n" % (SHOP, token)
    )
    assert house.agent.request()


def test_attack_a_token_says_that_it_is_a_delegation_and_not_what_it_may(house: House) -> None:
    token, _ = access_token.mint(
        KEYS, user=Person("ann"), cluster=None, issuer=ISSUER, lifetime=900, now=time.time(),
        login=Login("child", time.time() + LONG, (), "", "robot"),
    )  # fmt: skip
    answer = house.central.http2().get(SHOP, token=token.encode())
    assert answer.code == 401
    assert refusal_of(house.central.outcomes()[-1]) == "TOKEN_CLAIMS"


def test_attack_a_narrowing_that_nobody_understands(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """It gives nothing, and fills no log."""
    for narrowing in ("{", '{"verbs":["*"]}', "x" * 2000):
        token, _ = access_token.mint(
            KEYS, user=Person("ann"), cluster=None, issuer=ISSUER, lifetime=900, now=time.time(),
            login=Login("child", time.time() + LONG, (), narrowing, "robot"),
        )  # fmt: skip
        answer = house.refused(token.encode(), SHOP)
        assert "what this delegation may do is not understood here" in answer.status["message"]
    assert not [record for record in caplog.records if record.exc_info]


def test_attack_equal_requests_of_owner_and_delegation_on_one_connection(house: House) -> None:
    """What is remembered of the owner's request decides nothing about the delegation's."""
    client = house.central.http2()
    own, child = house.token("own"), house.token(namespaces=["other"])
    for _ in range(3):
        client.ask(SHOP, token=own)
        assert house.agent.request()
        number = client.ask(SHOP, token=child)
        assert client.answer(number).code == 403
        assert house.agent.requests() == []


def test_the_list_and_the_watch_show_the_same(house: House) -> None:
    token = house.token(namespaces=["shop"])
    client, number = house.watch(token, ALL)
    events = [
        {"type": "ADDED", "object": {"kind": "Pod", "metadata": {"namespace": it, "name": "a"}}}
        for it in ("other", "shop")
    ]
    assert not client.answer(number).ended
    sent = b"".join(json.dumps(it).encode() + b"\n" for it in events)
    house.agent.send(data(house.watched, sent))
    body = client.answer(number).body
    assert b'"shop"' in body
    assert b'"other"' not in body


# -- open streams


def test_open_streams_of_a_delegation_end_with_it_and_no_others(house: House) -> None:
    child, own = house.watch(house.token("child", verbs=["*"])), house.watch(house.token("own"))
    house.end("child")
    assert child[0].answer(child[1]).ended
    assert not own[0].answer(own[1]).ended


def test_attack_open_streams_and_old_tokens_outlive_a_group_that_was_taken(house: House) -> None:
    """Ann has her roles by a group alone; her delegation came of a login that had it."""
    source = PolicySource(
        list(parse_rbac(RBAC).roles),
        {},
        {"prod": {}, "staging": {}},
        group_roles={"acme:ops": ("owner",)},
    )
    house.central.policies.current = PolicySnapshot(source, 1)
    logins = {"own": ("", ""), "child": (parse_narrowing({"verbs": ["*"]}).text(), "robot")}
    tokens = {}
    for login, (narrowing, delegate) in logins.items():
        tokens[login], _ = access_token.mint(
            KEYS, user=Person("ann"), cluster=None, issuer=ISSUER, lifetime=900, now=time.time(),
            login=Login(login, time.time() + LONG, ("acme:ops",), narrowing, delegate),
        )  # fmt: skip
    open_ones = [house.watch(token.encode()) for token in tokens.values()]
    clients = [house.central.http2() for _ in tokens]
    for client, token in zip(clients, tokens.values(), strict=True):
        client.ask(SHOP, token=token.encode())
        assert house.agent.request()
    house.end(*lost_ids(tokens, ["acme:ops"]))
    house.central.chain.long_running.recheck_all()
    for _ in range(2):
        house.central.chain.long_running.second(time.time())
    assert [client.answer(number).ended for client, number in open_ones] == [True, True]
    for client, token in zip(clients, tokens.values(), strict=True):  # an equal head, remembered
        assert client.get(SHOP, token=token.encode()).code == 403


def test_open_streams_of_a_delegation_end_with_its_owners_account(house: House) -> None:
    child = house.watch(house.token("child", verbs=["*"]))
    house.directory.replace({"id-bob": 0})
    house.central.chain.long_running.recheck_all()
    for _ in range(2):
        house.central.chain.long_running.second(time.time())
    assert child[0].answer(child[1]).ended


def test_open_streams_end_when_the_owner_may_no_longer(house: House) -> None:
    child = house.watch(house.token("child", verbs=["*"]))
    fewer = {**RBAC, "users": []}
    house.central.policies.current = Central(
        house.central.path.parent / "x", rbac=fewer
    ).policies.current
    house.central.chain.long_running.recheck_all()
    for _ in range(2):
        house.central.chain.long_running.second(time.time())
    assert child[0].answer(child[1]).ended


def test_streams_stay_open_when_nothing_that_concerns_them_changes(house: House) -> None:
    child = house.watch(house.token("child", namespaces=["shop"], verbs=["watch"]), ALL)
    same = Central(house.central.path.parent / "y", rbac=RBAC).policies.current
    house.central.policies.current = same
    house.central.chain.long_running.recheck_all()
    for _ in range(2):
        house.central.chain.long_running.second(time.time())
    assert not child[0].answer(child[1]).ended


def test_a_cluster_is_told_the_owner(house: House) -> None:
    """A delegation is its owner there: what it may not do never reaches a cluster."""
    client = house.central.http2()
    client.ask(SHOP, token=house.token(verbs=["list"]))
    _, head = house.agent.request()
    told = json.loads(head[internal.IDENTITY])
    assert told["user"] == "ann@example.com"
    assert "robot" not in str(told)


def test_identities_of_delegations_say_so() -> None:
    plain = Identity("a@example.com", "1", (), 0.0, "", "", 0)
    assert not plain.is_delegation
    assert Identity("a@example.com", "1", (), 0.0, "", "", 0, narrowing="{}").is_delegation
    assert Identity("a@example.com", "1", (), 0.0, "", "", 0, delegate="x").is_delegation
