"""What the agent learns of the cluster's own RBAC, and of answers that say nothing."""

from typing import Any

import pytest

from mk8s_agent.apiserver.own_requests import ApiServerUnreachable
from mk8s_agent.apiserver.own_rights import QUESTIONS, Rights, ask_rights
from mk8s_agent.wire.control import BOUNDED, UNBOUNDED, UNKNOWN
from mk8s_agent.wire.group_names import (
    MAX_OTHER_GROUP_BYTES,
    MAX_OTHER_GROUPS,
    MAX_ROLE_GROUPS,
)
from tests.agent.api_server_for_tests import ApiServerForTests

Rule = dict[str, Any]


def rule(verb: str, group: str, *names: str, resource: str = "groups") -> Rule:
    return {"verbs": [verb], "apiGroups": [group], "resources": [resource],
            **({"resourceNames": list(names)} if names else {})}  # fmt: skip


class ReviewingServer(ApiServerForTests):
    """Answers reviews; a question is what is allowed to `mk8s:users`."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: list[dict[str, str]] = []
        self.rules: Any = []
        self.status = 201
        self.reviews: list[str] = []

    def review(self, kind: str, body: Any, headers: Any) -> tuple[int, Any]:
        self.reviews.append(kind)
        if kind == "selfsubjectrulesreviews":
            assert "Impersonate-User" not in headers
            return 201, {"status": {"resourceRules": self.rules}}
        assert headers["Impersonate-User"] == "mk8s:probe"
        assert headers.getall("Impersonate-Group") == ["mk8s:users"]
        asked = body["spec"]["resourceAttributes"]
        return self.status, {"status": {"allowed": asked in self.allowed}}


@pytest.fixture
def server() -> ReviewingServer:
    return ReviewingServer()


async def told(server: ReviewingServer) -> Rights:
    async with server.serve() as credentials:
        return await ask_rights(credentials)


async def test_a_cluster_that_holds_people_back(server: ReviewingServer) -> None:
    server.rules = [
        rule("impersonate", "", resource="users"),
        rule("impersonate", "", "mk8s:role:a", "mk8s:users", "mk8s:role:not one!"),
        rule("impersonate:user-info", "authentication.k8s.io", "mk8s:role:b"),
        rule("impersonate", "apps", "mk8s:role:c"),
        rule("get", "", "mk8s:role:d"),
        {"verbs": ["impersonate"], "nonResourceURLs": ["/"]},
    ]
    assert await told(server) == (BOUNDED, ("mk8s:role:a", "mk8s:role:b"), ())
    assert len(server.reviews) == len(QUESTIONS) + 1


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda it: f"{it['verb']} {it['resource']}")
async def test_attack_mk8s_users_may_become_everything(
    server: ReviewingServer, question: dict[str, str]
) -> None:
    server.allowed = [question]
    assert (await told(server)).users_group == UNBOUNDED


@pytest.mark.parametrize(
    "granted",
    [rule("*", "*", resource="*"), rule("impersonate", ""), rule("*", "authentication.k8s.io")],
)
async def test_an_agent_that_may_act_with_any_group(server: ReviewingServer, granted: Rule) -> None:
    server.rules = [rule("impersonate", "", "mk8s:role:a"), granted]
    assert (await told(server)).role_groups == ("*",)


async def test_more_groups_than_can_be_told(
    server: ReviewingServer, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"mk8s:role:r{number:04}" for number in range(MAX_ROLE_GROUPS + 1)]
    server.rules = [rule("impersonate", "", *names)]
    assert (await told(server)).role_groups == tuple(names[:-1])
    assert "rights.too_many_role_groups" in caplog.text


async def test_groups_of_issuers_are_told_too(
    server: ReviewingServer, caplog: pytest.LogCaptureFixture
) -> None:
    names = (
        "mk8s:role:a",
        "acme:devs",
        "acme:ops",
        "system:masters",
        "mk8s:users",
        "team-x",
        "a:\n",
    )
    server.rules = [rule("impersonate", "", *names)]
    assert (await told(server)).other_groups == ("acme:devs", "acme:ops")
    assert [it.getMessage() for it in caplog.records if it.name.startswith("mk8s_")] == []


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ([f"acme:g{number:04}" for number in range(MAX_OTHER_GROUPS + 1)], MAX_OTHER_GROUPS),
        ([f"acme:{number:03}{'x' * 192}" for number in range(100)], MAX_OTHER_GROUP_BYTES // 200),
    ],
)
async def test_more_groups_of_issuers_than_can_be_told(
    server: ReviewingServer, caplog: pytest.LogCaptureFixture, names: list[str], kept: int
) -> None:
    server.rules = [rule("impersonate", "", *names)]
    assert (await told(server)).other_groups == tuple(names[:kept])
    assert "rights.too_many_other_groups" in caplog.text


@pytest.mark.parametrize("status", [200, 401, 403, 404])
async def test_attack_an_answer_that_is_no_review_is_no_proof(
    server: ReviewingServer, status: int
) -> None:
    """The agent may not act as somebody whom it does not know, for example."""
    server.status = status
    assert (await told(server)).users_group == UNKNOWN


@pytest.mark.parametrize(
    "answer", [[], {}, {"status": []}, {"status": {}}, {"status": {"allowed": "yes"}}, b"{"]
)
async def test_attack_a_review_that_says_nothing_is_no_proof(
    server: ReviewingServer, answer: object
) -> None:
    server.review = lambda *_: (201, answer)  # type: ignore[method-assign]
    assert await told(server) == (UNKNOWN, (), ())


@pytest.mark.parametrize("rules", [["x"], [{"verbs": 1}], 7, None, {"a": 1}])
async def test_rules_that_are_none(server: ReviewingServer, rules: object) -> None:
    server.rules = rules
    assert await told(server) == (BOUNDED, (), ())


async def test_an_api_server_that_can_say_it_later(server: ReviewingServer) -> None:
    server.status = 429
    with pytest.raises(ApiServerUnreachable, match="answers 429 to a SelfSubjectAccessReview"):
        await told(server)
