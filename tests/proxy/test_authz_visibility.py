"""Collections that are allowed in part: when, what of them, and what stays refused."""

import pytest

from mk8s_proxy.authz import visibility as visibility_module
from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.policy import PolicySource, parse_role
from mk8s_proxy.authz.snapshot import PolicySnapshot

USER = "dev@example.com"


def rule(**changes: object) -> dict[str, object]:
    return {"name": "*", "namespaces": ["shop"], "verbs": ["list"], "resources": ["pods"]} | changes


def decide(rules: list[dict[str, object]], *attributes: str) -> Decision:
    source = PolicySource([parse_role("r", rules)], {USER: ("r",)}, {"prod": {}})
    return PolicySnapshot(source).decide(USER, (), "prod", Attributes(*attributes))


def seen(decision: Decision, *objects: str) -> set[str]:
    """The visible ones of objects written as namespace/name."""
    assert decision.allowed
    assert decision.visibility is not None
    pairs = (one.split("/") for one in objects)
    return {f"{place}/{name}" for place, name in pairs if decision.visibility.allows(place, name)}


ALL = ("list", "", "pods")
OBJECTS = ("shop/web-1", "shop/db", "shop-2/web-1", "bank/web-1", "/web-1", "shop/")


@pytest.mark.parametrize(
    ("rules", "wanted", "visible"),
    [
        ([rule()], ALL, {"shop/web-1", "shop/db"}),
        ([rule(namespaces=["shop*"])], ALL, {"shop/web-1", "shop/db", "shop-2/web-1"}),
        ([rule(namespaces=["*"], names=["web-*"])], ALL,
         {"shop/web-1", "shop-2/web-1", "bank/web-1"}),
        ([rule(names=["db"])], ("list", "", "pods", "", "shop"), {"shop/db"}),
        ([rule(names=["db"]), rule(namespaces=["bank"])], ALL, {"shop/db", "bank/web-1"}),
        ([rule(namespaces=["*"]), rule(deny=True)], ALL, {"shop-2/web-1", "bank/web-1"}),
        ([rule(namespaces=["*"]), rule(deny=True, namespaces=["*"], names=["web-*"])], ALL,
         {"shop/db"}),
        ([rule(), rule(deny=True, names=["db"])], ("list", "", "pods", "", "shop"),
         {"shop/web-1"}),
        ([rule(), rule(namespaces=["bank"], verbs=["get", "watch"])], ALL,
         {"shop/web-1", "shop/db"}),
    ],
)  # fmt: skip
def test_what_is_visible_of_a_list(rules, wanted, visible: set[str]) -> None:
    objects = [one for one in OBJECTS if len(wanted) < 5 or one.startswith(f"{wanted[4]}/")]
    assert seen(decide(rules, *wanted), *objects) == visible


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ([rule(namespaces=["*"])], ALL),
        ([rule()], ("list", "", "pods", "", "shop")),
        ([rule(names=["web-*"])], ("list", "", "pods", "", "shop", "web-1")),
        ([rule(), rule(deny=True, names=["db"])], ("list", "", "pods", "", "shop", "web-1")),
        ([rule(), rule(deny=True, namespaces=["bank"])], ("list", "", "pods", "", "shop")),
        ([rule(resources=["namespaces"])], ("list", "", "namespaces", "", "", "shop")),
    ],
)
def test_what_is_visible_as_a_whole_is_not_filtered(rules, wanted) -> None:
    decision = decide(rules, *wanted)
    assert decision.allowed
    assert decision.visibility is None


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ([rule(verbs=["get", "watch"])], ALL),
        ([rule(resources=["nodes"])], ("list", "", "nodes")),
        ([rule(resources=["pods/status"])], ALL),
        ([rule(namespaces=[""])], ALL),
        ([rule()], ("list", "", "pods", "", "bank")),
        ([rule(names=["web"])], ("list", "", "pods", "", "", "db")),
        ([rule(names=["web"])], ("list", "", "pods", "", "shop", "db")),
        ([rule(), rule(deny=True, namespaces=["*"])], ALL),
        ([rule(), rule(deny=True)], ("list", "", "pods", "", "shop")),
        ([rule(namespaces=["*"]), rule(deny=True, namespaces=["*"], names=["db"])],
         ("list", "", "pods", "", "", "db")),
        ([rule(resources=["namespaces"])], ("list", "", "namespaces", "", "", "bank")),
        ([rule(namespaces=["*"], resources=["*"]), rule(deny=True, resources=["*"])],
         ("list", "", "namespaces", "", "", "shop")),
        ([rule(resources=["*/*"])], ("list", "", "pods", "", "", "")),
        ([rule()], ("list", "", "pods", "status")),
    ],
)  # fmt: skip
def test_a_list_of_which_nothing_can_be_visible_is_refused_and_not_shown_empty(
    rules, wanted
) -> None:
    assert not decide(rules, *wanted).allowed


def test_a_namespace_belongs_to_itself() -> None:
    objects = ("/shop", "/bank", "/")
    mine = decide([rule(resources=["*"])], "list", "", "namespaces")
    assert seen(mine, *objects) == {"/shop"}
    everything = [rule(namespaces=["*"], resources=["*"])]
    others = decide([*everything, rule(deny=True, resources=["*"])], "list", "", "namespaces")
    assert seen(others, *objects) == {"/bank"}
    outside = [rule(namespaces=[""], resources=["*"]), rule(deny=True, resources=["*"])]
    assert seen(decide(outside, "list", "", "namespaces"), *objects) == {"/bank"}


def test_a_right_in_a_namespace_shows_not_the_namespace_itself() -> None:
    assert not decide([rule(resources=["pods"])], "list", "", "namespaces").allowed


def test_custom_resources_are_visible_where_their_objects_say_they_live() -> None:
    wanted = ("list", "example.com", "widgets")
    objects = ("shop/w", "bank/w", "/w")
    inside = decide([rule(resources=["widgets"])], *wanted)
    assert seen(inside, *objects) == {"shop/w"}
    outside = decide([rule(namespaces=[""], resources=["*"])], *wanted)
    assert seen(outside, *objects) == {"/w"}


def test_an_object_of_a_namespaced_list_that_names_no_namespace_belongs_to_the_lists_own() -> None:
    assert seen(decide([rule(names=["web"])], "list", "", "pods", "", "shop"), "/web") == {"/web"}


def test_a_deletion_of_a_part_shows_its_part() -> None:
    for rules in ([rule(verbs=["*"], names=["web"])],
                  [rule(verbs=["*"]), rule(verbs=["deletecollection"], deny=True,
                                           names=["db"])]):  # fmt: skip
        decision = decide(rules, "deletecollection", "", "pods", "", "shop")
        assert seen(decision, "shop/web", "shop/db", "bank/web") == {"shop/web"}
    whole = decide([rule(verbs=["deletecollection"])], "deletecollection", "", "pods", "", "shop")
    assert whole.allowed
    assert whole.visibility is None


def test_a_deletion_of_a_part_needs_the_list_and_says_so() -> None:
    rules = [rule(verbs=["deletecollection"], names=["web"])]
    decision = decide(rules, "deletecollection", "", "pods", "", "shop")
    assert not decision.allowed
    assert decision.reason == (
        "role r, rule 1, allows it only for a part of these objects, and to find those you must "
        "list them: no role allows it (roles: r)"
    )


def test_the_reason_names_the_rule_and_its_limit() -> None:
    decision = decide([rule()], *ALL)
    assert (decision.reason, decision.rule) == (
        "allowed by role r, rule 1, for the objects it covers", "role r, rule 1"
    )  # fmt: skip
    decision = decide([rule(namespaces=["*"]), rule(deny=True)], *ALL)
    assert decision.reason == "allowed by role r, rule 1, but for what role r, rule 2, denies"


def test_two_policies_that_show_the_same_are_equal() -> None:
    one, same, other = (
        decide(rules, *ALL).visibility for rules in ([rule()], [rule()], [rule(names=["a"])])
    )
    assert one == one == same != other
    assert len({one, same, other}) == 2
    assert one != decide([rule(verbs=["*"])], "watch", "", "pods").visibility
    assert repr(one) == "<CollectionVisibility of pods by role r, rule 1>"


def test_a_flood_of_namespaces_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility_module._known, "most_entries", 3)
    objects = [f"shop-{number}/web" for number in range(10)]
    assert seen(decide([rule(namespaces=["shop-*"])], *ALL), *objects, *objects) == set(objects)
    assert len(visibility_module._known) <= 3
