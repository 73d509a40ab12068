"""Locks where they are met: at credentials, and at the policy."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.db.locks import LockRecord
from mk8s_proxy.db.policy import PolicyRows
from mk8s_proxy.db.roles import RoleRecord
from mk8s_proxy.identity.identity import Identity, Unauthenticated
from mk8s_proxy.identity.locks import LOCKED, Lock, Locks, words_of
from mk8s_proxy.kube.request_info import parse_request_info
from mk8s_proxy.kube.request_target import parse_target
from mk8s_proxy.process.policy_feed import compile_rows
from tests.support.front_door import PODS, Central, refusal_of
from tests.support.memory import headers

ANN = "ann@example.com"
WHEN = datetime(2026, 1, 31, 8, 30, tzinfo=UTC)
RULES = [
    {"name": "*", "namespaces": ["*"], "verbs": ["get", "list"], "resources": ["pods"]},
    {
        "name": "*", "namespaces": ["secret"], "verbs": ["*"], "resources": ["*"], "deny": True,
    },
]  # fmt: skip
WIDE = [{"name": "*", "namespaces": ["*"], "verbs": ["*"], "resources": ["*"]}]


def identity(**more: str) -> Identity:
    login, token = more.get("login", "login-1"), more.get("token_id", "jti-1")
    groups = ("mk8s:users", more.get("group", "acme:devs"))
    return Identity(more.get("user", ANN), "id-ann", groups, 1e12, "", token, 0, login)


def locks(*given: Lock) -> Locks:
    made = Locks()
    made.replace(given)
    return made


def test_nothing_locked_is_no_refusal() -> None:
    made = locks()
    made.require_open(identity())
    assert (len(made), made.generation) == (0, 0)


@pytest.mark.parametrize(
    ("lock", "who", "others"),
    [
        (Lock("user", ANN, "told"), identity(), identity(user="bob@example.com")),
        (Lock("group", "acme:devs", "told"), identity(), identity(group="acme:ops")),
        (Lock("group", "crew", "told", (ANN,)), identity(), identity(user="bob@example.com")),
        (Lock("login", "login-1", "told"), identity(), identity(login="login-2")),
        (
            Lock("login", "login-1", "told", ("login-2",)),
            identity(login="login-2"),
            identity(login="login-3"),
        ),
        (Lock("token", "jti-1", "told"), identity(), identity(token_id="jti-2")),
        (Lock("token", "ci", "told"), identity(user="token:ci"), identity(user="token:cd")),
        (Lock("token", "ci", "told"), identity(user="token:ci"), identity(user="ci")),
    ],
)
def test_who_is_meant_and_nobody_else(lock: Lock, who: Identity, others: Identity) -> None:
    made = locks(lock)
    with pytest.raises(Unauthenticated, match="told") as refused:
        made.require_open(who)
    assert (refused.value.code, refused.value.reason) == (403, LOCKED)
    made.require_open(others)


def test_the_same_locks_are_no_change() -> None:
    lock = Lock("user", ANN, "told")
    made = locks(lock)
    made.replace([lock])
    assert (len(made), made.generation) == (1, 1)
    made.replace([])
    assert (len(made), made.generation) == (0, 2)
    made.require_open(identity())


def test_what_is_told() -> None:
    assert words_of("laptop lost", None) == "locked: laptop lost: ask your administrator"
    until = "locked: laptop lost (until 2026-01-31 08:30 UTC): ask your administrator"
    assert words_of("laptop lost", WHEN) == until


def snapshot(kind: str, target: str) -> PolicySnapshot:
    lock = LockRecord("1", kind, target, "a leak", "admin@example.com", WHEN, None)
    rows = PolicyRows(
        1,
        (
            RoleRecord("1", "developer", RULES, False, {"streams": 500}),
            RoleRecord("2", "wide", WIDE, False, {}),
        ),
        {ANN: ("developer",), "bob@example.com": ("developer", "wide"), "eve@example.com": ()},
        clusters={"prod": {}, "dev": {}},
        locks=(lock,),
    )
    return compile_rows(rows)


def get(namespace: str) -> Attributes:
    return Attributes("get", "", "pods", namespace=namespace, name="web")


def test_a_locked_role_grants_nothing() -> None:
    policy = snapshot("role", "developer")
    assert not policy.decide(ANN, (), "prod", get("shop")).allowed
    assert policy.clusters_of(ANN, ()) == frozenset()
    assert policy.limits_of("bob@example.com", "prod", 100, 1 << 20) == (100, 1 << 20)
    assert snapshot("role", "other").limits_of(ANN, "prod", 100, 1)[0] == 500


def test_attack_a_locked_role_denies_no_more() -> None:
    policy = snapshot("role", "developer")
    assert policy.decide("bob@example.com", (), "prod", get("shop")).allowed
    refused = policy.decide("bob@example.com", (), "prod", get("secret"))
    assert (refused.allowed, refused.rule) == (False, "role developer, rule 2")


def test_a_locked_cluster_is_closed_to_all_who_had_it() -> None:
    policy = snapshot("cluster", "prod")
    refused = policy.decide(ANN, (), "prod", get("shop"))
    assert (refused.allowed, refused.reason) == (
        False, "locked: a leak: ask your administrator",
    )  # fmt: skip
    assert policy.decide(ANN, (), "dev", get("shop")).allowed


def test_attack_somebody_without_a_right_learns_that_a_cluster_is_locked() -> None:
    policy = snapshot("cluster", "prod")
    for cluster in ("prod", "dev"):
        refused = policy.decide("eve@example.com", (), cluster, get("shop"))
        assert (refused.allowed, "locked" in refused.reason) == (False, False)


@pytest.fixture
def central(tmp_path: Path) -> Central:
    return Central(tmp_path)


def shut(central: Central, kind: str, target: str) -> None:
    lock = LockRecord("1", kind, target, "a leak", "admin@example.com", WHEN, None)
    rules = [
        {
            "name": "*", "namespaces": ["*"], "resources": ["pods"],
            "verbs": ["get", "list", "watch"],
        }
    ]  # fmt: skip
    rows = PolicyRows(
        2,
        (RoleRecord("1", "developer", rules, False, {}),),
        {"dev@example.com": ("developer",)},
        clusters={"prod": {}, "staging": {}},
        locks=(lock,),
    )
    central.policies.current = compile_rows(rows)
    central.chain.long_running.recheck_all()
    for second in (1.0, 2.0):
        central.chain.long_running.second(second)


@pytest.mark.parametrize("kind", ["cluster", "role"])
def test_a_lock_is_a_refusal_that_says_why(central: Central, kind: str) -> None:
    central.agent()
    shut(central, kind, "prod" if kind == "cluster" else "developer")
    answer = central.http2().get()
    assert answer.code == 403
    assert answer.status["reason"] == "Forbidden"
    assert "locked: a leak: ask your administrator" in answer.status["message"]
    assert ('the role "developer" is locked' in answer.status["message"]) == (kind == "role")
    assert answer.status["details"]["kind"] == "pods"
    [row] = central.outcomes()
    assert row["responseStatus"]["code"] == 403


def test_attack_a_denial_is_blamed_on_a_lock(central: Central) -> None:
    """What a rule denies is denied whether a role is locked or not."""
    policy = snapshot("role", "wide")
    central.policies.current = policy
    refused = policy.decide("bob@example.com", (), "prod", get("secret"))
    assert refused.reason == "role developer, rule 2, denies it"
    assert "locked" not in central.http2().get(b"/k8s/prod/version").body.decode()


def test_a_lock_of_a_cluster_ends_what_is_open_there_and_nowhere_else(central: Central) -> None:
    prod, staging = central.agent(), central.agent("staging")
    client = central.http2()
    mine = client.ask(b"/k8s/prod" + PODS + b"?watch=1")
    other = client.ask(b"/k8s/staging" + PODS + b"?watch=1")
    for agent in (prod, staging):
        stream, _ = agent.request()
        agent.send(headers(stream, [(b":status", b"200")]))
    shut(central, "cluster", "prod")
    assert client.answer(mine).ended
    assert not client.answer(other).ended
    [row] = central.outcomes()
    assert refusal_of(row) == "ENDED"
    assert "locked: a leak" in row["annotations"]["authorization.k8s.io/reason"]


def asked(policy: PolicySnapshot, user: str, cluster: str = "prod") -> str:
    """What a request is refused with."""
    target = b"/api/v1/namespaces/shop/services/web"
    info = parse_request_info(b"GET", parse_target(b"GET", target))
    attributes, decision = policy.decide_request(user, cluster, info, False, b"")
    assert attributes.resource == "services"
    assert not decision.allowed
    return decision.reason


def test_a_refusal_names_the_locked_role_of_whoever_asks_only() -> None:
    told = 'the role "wide" is locked: a leak: ask your administrator'
    policy = snapshot("role", "wide")
    assert asked(policy, "bob@example.com").endswith(told)
    assert "locked" not in asked(policy, ANN)


def test_attack_a_request_of_somebody_without_a_right_learns_of_a_locked_cluster() -> None:
    policy = snapshot("cluster", "prod")
    assert asked(policy, ANN).startswith("locked: a leak")
    assert "locked" not in asked(policy, "eve@example.com")
    assert "locked" not in asked(policy, ANN, "dev")
