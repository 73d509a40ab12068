"""`kubectl --as` through every door of the handler chain."""

from typing import Any

import pytest
from chain_for_tests import Passage, snapshot

from mk8s_proxy.listener.recurring import Recurring

DEV: dict[str, Any] = {
    "name": "prod",
    "namespaces": ["*"],
    "verbs": ["get", "list", "watch"],
    "resources": ["pods"],
    "impersonate": {"users": ["alice@example.com", "ghost@example.com"], "groups": ["team-*"]},
}
ALICE: dict[str, Any] = {
    "name": "*",
    "namespaces": ["*"],
    "verbs": ["get", "delete", "exec"],
    "resources": ["pods"],
}
RBAC = {
    "roles": [{"name": "dev", "clusters": [DEV]}, {"name": "ops", "clusters": [ALICE]}],
    "users": [
        {"email": "dev@example.com", "roles": ["dev"]},
        {"email": "alice@example.com", "roles": ["ops"]},
    ],
}
POD = "/k8s/prod/api/v1/namespaces/shop/pods/web"
AS_ALICE = (b"impersonate-user", b"alice@example.com")
GROUP = (b"impersonate-group", b"team-a")


@pytest.fixture
def passage() -> Passage:
    return Passage(RBAC)


def refused(passage: Passage) -> str:
    """The one sentence of a 403; nothing was sent and the row says so."""
    assert passage.client.code == 403
    status = passage.client.document
    assert (status["kind"], status["reason"], status["code"]) == ("Status", "Forbidden", 403)
    assert passage.cluster.heads == []
    row = passage.finish()
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert row["user"]["username"] == "dev@example.com"
    message: str = status["message"]
    return message


def test_the_request_is_decided_and_sent_as_the_other_user(passage: Passage) -> None:
    passage.send("dev", "DELETE", POD, AS_ALICE, GROUP)
    assert passage.cluster.identity == {
        "user": "alice@example.com",
        "uid": "",
        "groups": ["mk8s:users", "team-a"],
        "extra": {"mk8s.io/original-user": ["dev@example.com"]},
    }
    assert not any(name.startswith(b"impersonate") for name in passage.cluster.heads[0])


def test_the_row_names_both(passage: Passage) -> None:
    passage.send("dev", "DELETE", POD, AS_ALICE, GROUP, (b"impersonate-uid", b"7"))
    row = passage.finish()
    assert row["user"] == {
        "username": "dev@example.com",
        "uid": "id-dev@example.com",
        "groups": ["mk8s:users"],
    }
    assert row["impersonatedUser"] == {
        "username": "alice@example.com",
        "uid": "7",
        "groups": ["mk8s:users", "team-a"],
        "extra": {"mk8s.io/original-user": ["dev@example.com"]},
    }
    assert "role ops" in row["annotations"]["authorization.k8s.io/reason"]


def test_oneself_has_no_impersonated_user(passage: Passage) -> None:
    passage.send("dev", "GET", POD)
    assert "impersonatedUser" not in passage.finish()
    assert "extra" not in passage.cluster.identity


def test_without_a_role_that_says_so(passage: Passage) -> None:
    passage.send("dev", "GET", POD, (b"impersonate-user", b"bob@example.com"))
    message = refused(passage)
    assert message.startswith(
        'users "bob@example.com" is forbidden: User "dev@example.com" cannot impersonate resource '
        '"users" in API group "" at the cluster scope of cluster "prod"'
    )


def test_one_group_too_many(passage: Passage) -> None:
    passage.send("dev", "GET", POD, AS_ALICE, GROUP, (b"impersonate-group", b"admins"))
    assert 'groups "admins" is forbidden' in refused(passage)


def test_what_the_other_user_may_not_do(passage: Passage) -> None:
    passage.send("dev", "GET", "/k8s/prod/api/v1/pods", AS_ALICE)
    assert 'User "alice@example.com" cannot list resource "pods"' in refused(passage)


def test_a_user_nobody_knows_has_no_roles(passage: Passage) -> None:
    passage.send("dev", "GET", POD, (b"impersonate-user", b"ghost@example.com"))
    assert "the user has no roles" in refused(passage)


def test_a_group_alone(passage: Passage) -> None:
    passage.send("dev", "GET", POD, GROUP)
    assert "needs a user" in refused(passage)
    assert passage.exchange.entry.refusal == "IMPERSONATION_USER"


def test_attack_system_masters(passage: Passage) -> None:
    passage.send("dev", "GET", POD, AS_ALICE, (b"impersonate-group", b"system:masters"))
    assert "system:*" in refused(passage)
    assert passage.exchange.entry.refusal == "IMPERSONATION_RESERVED"


def test_decisions_of_the_two_are_never_mixed(passage: Passage) -> None:
    passage.send("dev", "DELETE", POD, AS_ALICE)
    assert len(passage.cluster.heads) == 1
    passage.send("dev", "DELETE", POD)
    assert passage.client.code == 403, "alice's yes is no yes for dev"
    passage.send("dev", "GET", "/k8s/prod/api/v1/pods")
    assert len(passage.cluster.heads) == 2
    passage.send("dev", "GET", "/k8s/prod/api/v1/pods", AS_ALICE)
    assert passage.client.code == 403, "dev's yes is no yes for alice"
    assert passage.cluster.identity["user"] == "dev@example.com"


def test_a_right_that_was_taken_away_ends_the_next_request_and_an_open_stream(
    passage: Passage,
) -> None:
    passage.send("dev", "GET", POD + "/log?follow=true", AS_ALICE, (b"impersonate-uid", b"1"))
    assert passage.client.code == 403  # alice has exec, not logs
    stream = Passage({**RBAC, "roles": [RBAC["roles"][0], with_logs()]})
    stream.send("dev", "GET", POD + "/log?follow=true", AS_ALICE)
    (head,) = stream.cluster.heads
    assert head[b":path"].endswith(b"follow=true")
    why = stream.chain._why_ended
    assert why(stream.exchange) == ""
    dev = {**DEV, "impersonate": {"users": ["bob@example.com"]}}
    stream.policy.current = snapshot(
        {**RBAC, "roles": [{"name": "dev", "clusters": [dev]}, with_logs()]}, 2
    )
    assert "no longer allowed" in why(stream.exchange)
    stream.send("dev", "GET", POD, AS_ALICE)
    assert stream.client.code == 403


def with_logs() -> dict[str, Any]:
    return {"name": "ops", "clusters": [{**ALICE, "verbs": ["get", "logs"]}]}


def test_an_open_stream_ends_with_the_real_users_login(passage: Passage) -> None:
    stream = Passage({**RBAC, "roles": [RBAC["roles"][0], with_logs()]})
    stream.send("dev", "GET", POD + "/log?follow=true", AS_ALICE)
    stream.people.ended = {"alice@example.com"}
    assert stream.chain._why_ended(stream.exchange) == ""
    stream.people.ended = {"dev@example.com"}
    assert stream.chain._why_ended(stream.exchange) == "logged out"


def test_a_policy_too_old_impersonates_nobody(passage: Passage) -> None:
    passage.policy.is_fresh = False
    passage.send("dev", "GET", POD, AS_ALICE)
    assert passage.client.code == 503
    assert passage.cluster.heads == []


def test_central_itself_does_not_drop_the_headers_in_silence(passage: Passage) -> None:
    passage.send("dev", "GET", "/clusters", AS_ALICE)
    assert passage.client.code == 403
    assert "act as yourself" in passage.client.document["message"]
    assert passage.managed == []


def test_attack_a_request_of_somebody_else_is_nobodys_pattern(passage: Passage) -> None:
    """Else an equal head without the second question would follow it."""
    passage.send("dev", "GET", POD, AS_ALICE)
    recurring = Recurring(passage.exchange.head)
    passage.chain._remember(passage.exchange, recurring, (b"", b""))
    assert recurring.admission is None
