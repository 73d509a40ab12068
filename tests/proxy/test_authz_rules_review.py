"""The rules of a cluster, narrowed: never more than both sides allow, and all that has words."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_authz_access_review import EVERYTHING, limited, made, policy
from test_authz_differential import GROUPS, NAMES, RESOURCES, VERBS, rules

from mk8s_agent.wire.control import BOUNDED
from mk8s_proxy.answers.reviews.verdicts import rules_status
from mk8s_proxy.authz import rules_review
from mk8s_proxy.authz.access import Access
from mk8s_proxy.authz.access_review import review
from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.policy import RuleSpec
from mk8s_proxy.authz.rules_review import Narrowing, PathRule, ResourceRule
from mk8s_proxy.authz.scopes import is_cluster_scoped
from tests.support.work import lines_run

ALL = tuple(VERBS)
ADMIN = ResourceRule(("*",), ("*",), ("*",))


def narrowing(*written: dict[str, Any], namespace: str = "shop") -> Narrowing:
    return Narrowing(policy(*written).access_of("u", (), "prod"), namespace)


def narrowed(
    rule: ResourceRule, *written: dict[str, Any], namespace: str = "shop"
) -> tuple[list[ResourceRule], bool]:
    """What is left of a rule, without the reviews that everybody may make; whether all of it is."""
    work = narrowing(*written, namespace=namespace)
    kept = [one for one in work.resources(rule) if "authorization.k8s.io" not in one.api_groups]
    kept = [one for one in kept if "authentication.k8s.io" not in one.api_groups]
    return kept, not work.incomplete


def on(resources: str, verbs: str = "get list", names: str = "", groups: str = "") -> ResourceRule:
    """A rule of the cluster, in short."""
    members = tuple(groups.split()) or ("",)
    return ResourceRule(
        tuple(verbs.split()), members, tuple(resources.split()), tuple(names.split())
    )


def test_verbs_meet() -> None:
    viewer = limited("*", verbs=["get", "watch"])
    assert narrowed(on("pods secrets", "get list watch"), viewer) == (
        [on("pods secrets", "get watch")],
        True,
    )
    assert narrowed(on("pods", "delete"), viewer) == ([], True)


def test_a_star_of_the_cluster_becomes_what_the_role_names() -> None:
    role = limited("*", verbs=["get"], resources=["pods", "deployments.apps", "pods/status"])
    kept, whole = narrowed(ADMIN, role)
    assert kept == [
        on("pods pods/status", "get", groups="*"),
        on("deployments", "get", groups="apps"),
    ]
    assert whole
    kept, _ = narrowed(on("*", "*", groups="apps batch"), role)
    assert on("pods deployments pods/status", "get", groups="apps") in kept
    assert on("pods pods/status", "get", groups="batch") in kept


def test_a_star_of_the_role_becomes_what_the_cluster_names() -> None:
    assert narrowed(on("pods configmaps", "*"), EVERYTHING) == (
        [on("pods configmaps", " ".join(ALL))],
        True,
    )


def test_stars_on_both_sides_stay_and_say_that_they_mean_less() -> None:
    kept, whole = narrowed(ADMIN, limited("*", verbs=["get", "list"]))
    assert kept == [on("*", "get list", groups="*")]
    assert not whole
    kept, _ = narrowed(ADMIN, EVERYTHING)
    assert on("*", " ".join(ALL), groups="*") in kept
    assert on("pods/exec pods/attach pods/portforward", "get create") in kept


EVERY_RESOURCE = ["*", "*/*", "nodes/proxy", "serviceaccounts/token"]


def test_whoever_may_do_everything_gets_the_clusters_own_rules() -> None:
    admin = limited("*", resources=EVERY_RESOURCE)
    assert narrowed(ADMIN, admin) == ([ADMIN], False), "the verb is impersonation, too"
    for rule in (
        on("*", "*", groups="apps batch"),
        on("pods pods/log", "*"),
        on("*", "get bind", groups="*"),
        on("secrets", "get", "web"),
        on("*/status", "patch", groups="apps"),
    ):
        assert narrowed(rule, admin) == ([rule], True)
    assert narrowed(on("users", "*"), admin) == ([on("users", "*")], False)
    assert narrowed(on("users", "get impersonate"), admin) == ([on("users", "get")], False)


def test_whoever_may_see_everything_gets_that_of_the_clusters_rules() -> None:
    viewer = limited("*", resources=EVERY_RESOURCE, verbs=["get", "list", "watch"])
    assert narrowed(ADMIN, viewer) == ([on("*", "get list watch", groups="*")], True)
    assert narrowed(on("*", "watch delete get"), viewer) == ([on("*", "watch get")], True)
    also = limited("shop", resources=["pods"], verbs=["delete"])
    assert narrowed(ADMIN, viewer, also) == (
        [on("*", "get list watch", groups="*"), on("pods", "delete", groups="*")],
        True,
    )


@pytest.mark.parametrize(
    "role",
    [
        [limited("*", "")],
        [limited("*", resources=["*", "*/*"])],
        [limited("*", resources=["*", "nodes/proxy", "serviceaccounts/token"])],
        [limited("team-*", "", resources=EVERY_RESOURCE)],
        [limited("*", resources=EVERY_RESOURCE, names=["web-*"])],
        [limited("*", resources=EVERY_RESOURCE),
         limited("x", resources=["secrets"], verbs=["get"], deny=True)],
    ],
)  # fmt: skip
def test_attack_less_than_everything_is_not_called_everything(role: list[dict[str, Any]]) -> None:
    kept, _ = narrowed(ADMIN, *role)
    assert ADMIN not in kept


def test_everything_may_come_from_several_rules() -> None:
    parts = [limited("*", resources=[one]) for one in EVERY_RESOURCE]
    assert narrowed(ADMIN, *parts)[0] == [ADMIN]


def test_words_become_subresources() -> None:
    role = limited("*", verbs=["logs", "exec"], resources=["pods"])
    assert narrowed(on("pods/log pods/exec pods/proxy", "*"), role) == (
        [on("pods/log", "get"), on("pods/exec", "get create")],
        True,
    )
    kept, whole = narrowed(ADMIN, role)
    assert kept == [on("pods/log", "get"), on("pods/exec pods/attach", "get create")]
    assert whole
    assert narrowed(on("*/log", "*", groups="*"), role) == ([on("pods/log", "get")], True)
    assert narrowed(on("*", "*", groups="apps"), role) == ([], True)


def test_words_on_subresources_that_are_spelled_out() -> None:
    role = limited("*", verbs=["logs"], resources=["pods/log"])
    assert narrowed(ADMIN, role) == ([on("pods/log", "get")], True)


def test_subresources() -> None:
    role = limited("*", verbs=["get"], resources=["*/status", "deployments/scale"])
    assert narrowed(on("pods pods/status deployments/scale", "get"), role) == (
        [on("pods/status deployments/scale", "get")],
        True,
    )
    kept, whole = narrowed(ADMIN, role)
    assert (kept, whole) == ([on("*/status deployments/scale", "get", groups="*")], True)
    assert narrowed(on("*/scale", "get"), role) == ([on("deployments/scale", "get")], True)
    assert narrowed(on("*/log", "get"), role) == ([], True)


def test_a_subresource_of_the_role_is_not_the_resource_of_the_cluster() -> None:
    role = limited("*", verbs=["get"], resources=["pods/status"])
    assert narrowed(on("pods", "get", groups="*"), role) == ([], True)


def test_all_subresources_have_no_word() -> None:
    role = limited("*", verbs=["get"], resources=["*/*"])
    assert narrowed(on("pods/status pods/x", "get"), role)[0] == [on("pods/status pods/x", "get")]
    assert narrowed(ADMIN, role)[1] is False
    assert narrowed(on("*/status", "get"), role) == ([on("*/status", "get")], True)


def test_nodes_proxy_only_where_it_is_spelled_out() -> None:
    cluster = on("nodes/proxy serviceaccounts/token", "*")
    assert narrowed(cluster, limited("*", resources=["*", "*/*"])) == ([], True)
    named = limited("*", resources=["nodes/proxy"])
    assert narrowed(cluster, named)[0] == [on("nodes/proxy", " ".join(ALL))]
    assert narrowed(ADMIN, limited("*", resources=["*/proxy"])) == ([], False)


def test_a_role_for_cluster_scoped_objects_lists_those() -> None:
    kept, whole = narrowed(ADMIN, limited("", verbs=["get"]))
    listed = {resource for rule in kept for resource in rule.resources}
    assert {"nodes", "persistentvolumes", "clusterroles"} <= listed
    assert not listed & {"*", "pods", "secrets", "namespaces"}
    assert not whole


def test_globs_of_resources() -> None:
    role = limited("*", verbs=["get"], resources=["pod*", "*.example.com", "x.*.io"])
    assert narrowed(on("pods podtemplates services", "get"), role) == (
        [on("pods podtemplates", "get")],
        True,
    )
    kept, whole = narrowed(ADMIN, role)
    assert kept == [on("*", "get", groups="example.com")]
    assert not whole
    assert narrowed(on("widgets", "get", groups="example.com apps"), role)[0] == [
        on("widgets", "get", groups="example.com")
    ]


def test_names_meet() -> None:
    role = limited("*", verbs=["get"], resources=["secrets"], names=["web", "db-*"])
    assert narrowed(on("secrets", "get", "web db-1 root"), role) == (
        [on("secrets", "get", "web db-1")],
        True,
    )
    assert narrowed(on("secrets", "get", "root"), role) == ([], True)
    assert narrowed(on("secrets", "get"), role) == ([on("secrets", "get", "web")], False)
    plain = limited("*", verbs=["get"], names=["web"])
    assert narrowed(on("secrets", "get"), plain) == ([on("secrets", "get", "web")], True)
    assert narrowed(on("secrets", "get", "*"), EVERYTHING)[0] == [on("secrets", "get")]


def test_a_filtered_list_is_a_list() -> None:
    role = limited("*", verbs=["list"], resources=["pods"], names=["web"])
    assert narrowed(on("pods", "list"), role) == ([on("pods", "list")], True)


def test_namespaces_meet() -> None:
    role = limited("shop", verbs=["get"])
    assert narrowed(on("pods", "get"), role) == ([on("pods", "get")], True)
    assert narrowed(on("pods", "get"), role, namespace="other") == ([], True)
    assert narrowed(on("nodes", "get"), role) == ([], True)
    assert narrowed(on("nodes pods", "get"), limited("", verbs=["get"])) == (
        [on("nodes", "get")],
        True,
    )


def test_a_namespace_belongs_to_itself() -> None:
    role = limited("shop", verbs=["get", "list"])
    assert narrowed(on("namespaces"), role) == (
        [on("namespaces", "get", "shop"), on("namespaces", "list")],
        True,
    )
    assert narrowed(on("namespaces"), role, namespace="other")[0] == [on("namespaces", "list")]


@pytest.mark.parametrize("reach", [BOUNDED, "unbounded"])
def test_a_star_gives_no_role_away_where_rbac_holds_nobody_back(reach: str) -> None:
    access = policy(limited("shop"), reach=reach).access_of("u", (), "prod")
    work = Narrowing(access, "shop")
    kept = work.resources(on("*", "create", groups="rbac.authorization.k8s.io"))
    assert any("*" in rule.resources for rule in kept) is (reach == BOUNDED)
    assert work.incomplete


def test_denials_take_away() -> None:
    secrets = limited("*", deny=True, resources=["secrets"])
    assert narrowed(on("pods secrets", "get"), EVERYTHING, secrets) == ([on("pods", "get")], True)
    kept, whole = narrowed(on("*", "get", groups="*"), EVERYTHING, secrets)
    assert not any("*" in rule.resources for rule in kept)
    assert not whole
    listed = {
        (group, resource)
        for rule in kept
        for group in rule.api_groups
        for resource in rule.resources
    }
    assert {("", "pods"), ("", "nodes"), ("apps", "deployments")} <= listed
    assert ("", "secrets") not in listed


def test_a_star_stays_for_the_verbs_that_no_denial_is_about() -> None:
    frozen = limited("*", deny=True, verbs=["delete"], resources=["secrets"])
    kept, whole = narrowed(on("*", "get delete"), EVERYTHING, frozen)
    assert [rule.verbs for rule in kept if "*" in rule.resources] == [("get",)]
    (others,) = [rule for rule in kept if "pods" in rule.resources]
    assert others.verbs == ("delete",)
    assert "secrets" not in others.resources
    assert not whole


def test_a_denial_elsewhere_lists_nothing_more() -> None:
    """The `*` is missing since the role does not give it, whatever is denied."""
    frozen = limited("*", deny=True, resources=["secrets"])
    role = limited("*", verbs=["get"], resources=["pods"])
    assert narrowed(on("*", "get"), role, frozen) == ([on("pods", "get")], True)


def test_denials_of_names() -> None:
    root = limited("*", deny=True, verbs=["get"], resources=["secrets"], names=["root"])
    assert narrowed(on("secrets", "get", "web root"), EVERYTHING, root) == (
        [on("secrets", "get", "web")],
        True,
    )
    assert narrowed(on("secrets", "get"), EVERYTHING, root) == ([], False)


def test_verbs_of_the_cluster_alone_stay() -> None:
    rule = on("podsecuritypolicies", "use", "restricted", "policy")
    assert narrowed(rule, limited("*", verbs=["get"])) == ([rule], True)
    assert narrowed(on("roles", "get bind"), limited("*", verbs=["get"])) == (
        [on("roles", "bind"), on("roles", "get")],
        True,
    )


def test_impersonation_is_not_listed() -> None:
    assert narrowed(on("users", "impersonate"), EVERYTHING) == ([], False)


def test_reviews_of_oneself_are_open_to_all() -> None:
    reviews = "selfsubjectaccessreviews selfsubjectrulesreviews"
    rule = on(reviews, "create", groups="authorization.k8s.io")
    work = narrowing(limited("x", verbs=["get"]))
    assert work.resources(rule) == [rule]
    assert work.resources(on("*", "create", groups="authorization.k8s.io")) == [rule]
    assert not work.incomplete


def test_paths() -> None:
    role = {"nonResourceURLs": ["/metrics*", "/logs"], "verbs": ["get"]}
    work = narrowing(role)
    assert work.paths(PathRule(("*",), ("/metrics/slis", "/logs*", "/x"))) == [
        PathRule(("get", "head"), ("/metrics/slis", "/logs"))
    ]
    assert work.paths(PathRule(("post",), ("*",))) == [
        PathRule(("post",), ("/api", "/api/", "/apis", "/apis/"))
    ]
    (openings,) = work.paths(PathRule(("get",), ("/version", "/api", "/api/*", "/healthz/x")))
    assert openings == PathRule(("get",), ("/api", "/api/", "/version", "/api/*"))
    assert not work.incomplete


def test_whoever_may_ask_for_every_path_gets_the_clusters_own_rules() -> None:
    every = {"nonResourceURLs": ["*"], "verbs": ["*"]}
    rule = PathRule(("*",), ("*", "/metrics"))
    assert narrowing(every).paths(rule) == [rule]
    reading = {"nonResourceURLs": ["*"], "verbs": ["get"]}
    assert narrowing(reading).paths(PathRule(("get",), ("*",))) == [PathRule(("get",), ("*",))]
    assert rule not in narrowing(reading).paths(rule)
    assert narrowing(every).paths(PathRule(("options",), ("*",))) == []


def test_denied_paths() -> None:
    every = {"nonResourceURLs": ["*"], "verbs": ["*"]}
    deny = {"deny": True, "nonResourceURLs": ["/logs/a"], "verbs": ["get"]}
    work = narrowing(every, deny)
    assert work.paths(PathRule(("get",), ("/logs/a", "/logs/b"))) == [
        PathRule(("get",), ("/logs/b",))
    ]
    assert not work.incomplete
    assert work.paths(PathRule(("get",), ("/logs/*",))) == []
    assert work.incomplete


def test_attack_rules_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rules on both sides end the answer early, never with a yes too many."""
    monkeypatch.setattr(rules_review, "_BUDGET", 3 * rules_review._STEPS_OF_A_QUESTION)
    work = narrowing(limited("*", verbs=["get"]))
    kept = work.resources(on("a b c d e f", "get"))
    assert kept == [on("a b", "get")]
    assert work.incomplete


def test_attack_ten_thousand_rules_hold_nobody_up() -> None:
    """What they cost has an end, wherever they do: in questions, in rules or in names."""
    own = (limited(f"r{number}*", verbs=["get"]) for number in range(50))
    access = policy(*own).access_of("u", (), "prod")
    name = {"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["n"]}
    every = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
    path = {"verbs": ["*"], "nonResourceURLs": ["/a"]}
    for key, rule in (
        ("resourceRules", name),
        ("resourceRules", every),
        ("nonResourceRules", path),
    ):
        answers: list[Any] = []
        content = {"status": {key: [rule] * 10_000}}
        ran = lines_run(partial(_judge, answers, content, access))
        assert answers[0]["incomplete"] is True
        assert ran < 1_200_000  # some 20 ms without the tracing


def _judge(answers: list[Any], content: dict[str, Any], access: Access) -> None:
    answers.append(rules_status(content, access, "shop"))


# The rules that are left, read as Kubernetes reads them.

SUBRESOURCES = ["", "", "log", "exec", "status", "token"]
cluster_rules = st.builds(
    ResourceRule,
    st.lists(st.sampled_from([*VERBS, "*"]), min_size=1, max_size=3).map(tuple),
    st.lists(st.sampled_from([*GROUPS, "*"]), min_size=1, max_size=2).map(tuple),
    st.lists(
        st.sampled_from([*RESOURCES, "*", "*", "pods/log", "pods/exec", "*/status", "*/log"]),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.sampled_from([(), (), (), ("web",), ("web", "db")]),
)
questions = st.builds(
    Attributes,
    st.sampled_from(VERBS),
    st.sampled_from(GROUPS),
    st.sampled_from([*RESOURCES, "namespaces"]),
    st.sampled_from(SUBRESOURCES),
    st.just("shop"),
    st.sampled_from(NAMES),
)


def allows(rule: ResourceRule, wanted: Attributes, *, stars: bool = True) -> bool:
    """k8s.io/kubernetes/pkg/apis/rbac/v1/evaluation_helpers.go.

    Without `stars` a `*` is read as mk8s means it: no subresource, nothing outside namespaces.
    """
    combined = wanted.resource + (f"/{wanted.subresource}" if wanted.subresource else "")
    whole = stars or not (wanted.subresource or is_cluster_scoped("*", wanted.resource))
    below = stars or not is_cluster_scoped("*", wanted.resource)
    told = combined in rule.resources or (below and f"*/{wanted.subresource}" in rule.resources)
    return (
        (wanted.verb in rule.verbs or "*" in rule.verbs)
        and (wanted.api_group in rule.api_groups or "*" in rule.api_groups)
        and (told or (whole and "*" in rule.resources))
        and (not rule.names or wanted.name in rule.names)
    )


def both_sides(
    written: list[RuleSpec], cluster: list[ResourceRule], asked: list[Attributes]
) -> tuple[Narrowing, list[ResourceRule], list[tuple[Attributes, bool]]]:
    """The narrowing, what it left, and for each question whether mk8s and the cluster allow it."""
    access = made(written).access_of("u", (), "dev-1")
    work = Narrowing(access, "shop")
    left = [kept for rule in cluster for kept in work.resources(rule)]
    answers = [
        (wanted, any(allows(rule, wanted) for rule in cluster) and review(access, wanted).allowed)
        for wanted in asked
        # not `apps/nodes`: no such thing
        if is_cluster_scoped("*", wanted.resource)
        is is_cluster_scoped(wanted.api_group, wanted.resource)
    ]
    return work, left, answers


@settings(max_examples=3 * settings().max_examples)
@given(
    st.lists(rules(), min_size=1, max_size=4),
    st.lists(cluster_rules, min_size=1, max_size=3),
    st.lists(questions, min_size=1, max_size=20),
)
def test_what_is_left_is_what_both_allow(
    written: list[RuleSpec], cluster: list[ResourceRule], asked: list[Attributes]
) -> None:
    work, left, answers = both_sides(written, cluster, asked)
    for wanted, both in answers:
        if any(allows(rule, wanted, stars=False) for rule in left):
            assert both, wanted
        elif both:
            assert work.incomplete or any(allows(rule, wanted) for rule in left), wanted


wide_rules = st.builds(
    RuleSpec,
    verbs=st.sampled_from([("*",), ("get",), ("get", "list", "logs"), ("delete", "create")]),
    namespaces=st.sampled_from([("*",), ("*",), ("shop",), ("", "shop")]),
    resources=st.sampled_from(
        [tuple(EVERY_RESOURCE), tuple(EVERY_RESOURCE), ("*", "*/*"), ("*",), ("pods", "pods/log")]
    ),
)


@settings(max_examples=3 * settings().max_examples)
@given(
    st.lists(wide_rules, min_size=1, max_size=3),
    st.lists(cluster_rules, min_size=1, max_size=3),
    st.lists(questions, min_size=1, max_size=20),
)
def test_what_calls_itself_complete_permits_exactly_what_both_permit(
    written: list[RuleSpec], cluster: list[ResourceRule], asked: list[Attributes]
) -> None:
    work, left, answers = both_sides(written, cluster, asked)
    for wanted, both in answers:
        listed = any(allows(rule, wanted) for rule in left)
        assert listed is both or work.incomplete, wanted
        unlimited = any(rule.verbs == ("*",) for rule in left)
        assert not unlimited or listed is both, wanted
