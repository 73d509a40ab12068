"""The policy language: what is written is what is meant, and a mistake is named with its place."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.authz.policy import (
    PolicyError,
    PolicySource,
    RbacDocument,
    RoleSpec,
    RuleSpec,
    UserSpec,
    parse_rbac,
    parse_role,
)

SEED = """
roles:
  - name: developer
    clusters:
      - name: "dev-*"
        namespaces: ["*"]
        verbs: ["get", "list", "logs", "exec"]
        resources: ["pods", "services", "deployments"]
users:
  - email: "Dev@Example.com"
    roles: ["developer"]
"""

FULL = {
    "name": "prod-*",
    "labels": {"env": "prod", "tier": ""},
    "namespaces": ["shop-*", ""],
    "verbs": ["*"],
    "resources": ["pods", "deployments.apps", "*.example.com", "pods/log", "*/status", "pods."],
    "names": ["web-*"],
    "nonResourceURLs": ["/metrics", "/logs/*", "*"],
    "deny": True,
    "impersonate": {"users": ["ci-*"], "groups": ["team-a"]},
}


def rule(**changes: object) -> dict[str, object]:
    plain = {"name": "*", "namespaces": ["*"], "verbs": ["get"], "resources": ["pods"]}
    changed = {**plain, **changes}
    return {key: value for key, value in changed.items() if value is not ...}


def test_seed_format() -> None:
    written = RuleSpec(
        cluster="dev-*",
        namespaces=("*",),
        verbs=("get", "list", "logs", "exec"),
        resources=("pods", "services", "deployments"),
    )
    assert parse_rbac(yaml.safe_load(SEED)) == RbacDocument(
        (RoleSpec("developer", (written,)),), (UserSpec("dev@example.com", ("developer",)),)
    )


def test_every_key_survives_the_way_to_the_database_and_back() -> None:
    role = parse_role("r", [FULL, rule()])
    assert role.document() == [FULL, rule()]
    assert parse_role("r", role.document()) == role


def test_only_users_or_only_groups_survive_too() -> None:
    for whom in ({"users": ["a"]}, {"groups": ["b"]}):
        written = [{"name": "*", "impersonate": whom}]
        assert parse_role("r", written).document() == written


def test_built_in_role_may_be_given_without_a_definition() -> None:
    users = [{"email": "a@b.c", "roles": ["admin", "admin"], "name": "Ada"}]
    parsed = parse_rbac({"users": users})
    assert parsed.users == (UserSpec("a@b.c", ("admin",), "Ada"),)


def test_known_roles_are_those_of_the_caller() -> None:
    document = {"users": [{"email": "a@b.c", "roles": ["ops"]}]}
    assert parse_rbac(document, known_roles=["ops"]).users[0].roles == ("ops",)
    with pytest.raises(PolicyError):
        parse_rbac(document)


def test_empty_document_and_source() -> None:
    assert parse_rbac({}) == RbacDocument((), ())
    assert PolicySource() == PolicySource([], {}, {})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("x", "clusters: must be a list, not a string"),
        (None, "clusters: must be a list, not missing or empty"),
        ([], "clusters: must have at least one rule"),
        (["x"], "clusters[0]: must be a mapping, not a string"),
        ([{1: 2}], "clusters[0]: the key 1 must be a string: put it in quotes"),
        ([rule(), rule(denny=True)], 'clusters[1].denny: unknown key: did you mean "deny"?'),
        ([rule(zzzz=1)], ("clusters[0].zzzz: unknown key: known are name, labels, deny, "
         "impersonate, namespaces, verbs, resources, names, nonResourceURLs")),
        ([rule(name=...)], 'clusters[0]: needs "name" (a glob) or "labels" to select clusters'),
        ([rule(name="")], "clusters[0].name: must not be empty"),
        ([rule(name=7)], "clusters[0].name: must be a string, not a number: put it in quotes"),
        ([rule(name=["a"])], "clusters[0].name: must be a string, not a list: put it in quotes"),
        ([rule(name=b"a")], "clusters[0].name: must be a string, not bytes: put it in quotes"),
        ([rule(name="a?")], ("clusters[0].name: only * is special in a pattern: write ? [ ] { } "
         "and \\ as *")),
        ([rule(name="a\n")], "clusters[0].name: must be printable and have 512 characters at most"),
        ([rule(name="a" * 513)],
         "clusters[0].name: must be printable and have 512 characters at most"),
        ([rule(labels={})], "clusters[0].labels: must name at least one label, or be left out"),
        ([rule(labels={"env": True})],
         "clusters[0].labels.env: must be a string, not true or false: put it in quotes"),
        ([rule(labels={"a b": "x"})],
         "clusters[0].labels: 'a b' is no label key: letters, digits, dots, dashes, slashes"),
        ([rule(namespaces=...)],
         'clusters[0].namespaces: must not be empty: write ["*"] for all'),
        ([rule(namespaces=[])], 'clusters[0].namespaces: must not be empty: write ["*"] for all'),
        ([rule(namespaces="*")], "clusters[0].namespaces: must be a list, not a string"),
        ([rule(namespaces=None)], "clusters[0].namespaces: must be a list, not missing or empty"),
        ([rule(resources=...)],
         'clusters[0]: needs "resources", "nonResourceURLs" or "impersonate"'),
        ([rule(resources=..., nonResourceURLs=["/x"])],
         "clusters[0].resources: must not be empty beside namespaces"),
        ([rule(resources=["Pods"])],
         ('clusters[0].resources[0]: "Pods" is no resource: write it as "pods", "deployments.apps" '
         'or "pods/log"')),
        ([rule(resources=["pods/log/x"])],
         ('clusters[0].resources[0]: "pods/log/x" is no resource: write it as "pods", '
         '"deployments.apps" or "pods/log"')),
        ([rule(resources=["pods", ""])], "clusters[0].resources[1]: must not be empty"),
        ([rule(verbs=...)], 'clusters[0].verbs: must not be empty: write ["*"] for all'),
        ([rule(verbs=["get", "gets"])],
         'clusters[0].verbs[1]: unknown verb "gets": did you mean "get"?'),
        ([rule(verbs=["qqq"])],
         ('clusters[0].verbs[0]: unknown verb "qqq": known are create, delete, deletecollection, '
         'get, list, patch, update, watch, logs, exec, portforward, proxy, impersonate, *')),
        ([rule(verbs=["post"])],
         'clusters[0].verbs[0]: "post" is an HTTP method: for resources write "create"'),
        ([rule(verbs=["escalate"])],
         'clusters[0].verbs[0]: "escalate" is checked by the cluster itself: leave it out'),
        ([rule(names=[])], "clusters[0].names: must name objects of resources, or be left out"),
        ([rule(names=["a"], resources=..., namespaces=..., nonResourceURLs=["/x"])],
         "clusters[0].names: must name objects of resources, or be left out"),
        ([rule(nonResourceURLs=["x"])],
         ('clusters[0].nonResourceURLs[0]: must start with "/" and may have one * as its last '
         'character')),
        ([rule(nonResourceURLs=["/a*b"])],
         ('clusters[0].nonResourceURLs[0]: must start with "/" and may have one * as its last '
         'character')),
        ([rule(deny="yes")], "clusters[0].deny: must be true or false, not a string"),
        ([rule(verbs=["impersonate"])],
         'clusters[0]: the verb "impersonate" needs "impersonate" beside it to say whom'),
        ([rule(impersonate={})],
         'clusters[0].impersonate: must say whom: {users: ["ci@example.com"]}'),
        ([rule(impersonate={"user": ["x"]})],
         'clusters[0].impersonate.user: unknown key: did you mean "users"?'),
        ([rule(**{"a\nb": 1})], ("clusters[0].'a\\nb': unknown key: known are name, labels, deny, "
         "impersonate, namespaces, verbs, resources, names, nonResourceURLs")),
    ],
)  # fmt: skip
def test_mistake_in_a_role(written: object, message: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse_role("r", written)
    assert str(error.value) == message
    assert f"{error.value.place}: {error.value.problem}" == message


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "must be a mapping, not missing or empty"),
        ([], "must be a mapping, not a list"),
        ({"role": []}, 'role: unknown key: did you mean "roles"?'),
        ({"roles": {}}, "roles: must be a list, not a mapping"),
        ({"roles": [{"clusters": [rule()]}]},
         "roles[0].name: must be a string, not missing or empty: put it in quotes"),
        ({"roles": [{"name": "a b", "clusters": [rule()]}]},
         "roles[0].name: must be 1 to 63 letters, digits, dots, dashes, colons or underscores"),
        ({"roles": [{"name": "a"}]}, "roles[0].clusters: must be a list, not missing or empty"),
        ({"roles": [{"name": "a", "clusters": [rule()], "zz": []}]},
         "roles[0].zz: unknown key: known are name, clusters, limits"),
        ({"roles": [{"name": "a", "clusters": [rule(), rule(verbs=["get", "list", "wach"])]}]},
         'roles[0].clusters[1].verbs[2]: unknown verb "wach": did you mean "watch"?'),
        ({"roles": [{"name": "a", "clusters": [rule()]}] * 2},
         'roles[1].name: the role "a" is defined twice'),
        ({"users": [{"email": "a@b.c", "roles": ["admn"]}]},
         'users[0].roles[0]: there is no role "admn": did you mean "admin"?'),
        ({"users": [{"email": "a@b.c", "roles": ["qqqqqq"]}]},
         'users[0].roles[0]: there is no role "qqqqqq"'),
        ({"users": [{"email": "ab.c", "roles": []}]},
         'users[0].email: "ab.c" is no email address'),
        ({"users": [{"email": "a@b.c", "roles": []}, {"email": "A@b.c", "roles": []}]},
         'users[1].email: the user "a@b.c" is listed twice'),
        ({"users": [{"email": "a@b.c"}]}, "users[0].roles: must be a list, not missing or empty"),
        ({"users": [{"email": "a@b.c", "roles": [], "password": "x"}]},
         "users[0].password: unknown key: known are email, roles, name"),
    ],
)  # fmt: skip
def test_mistake_in_a_document(document: object, message: str) -> None:
    with pytest.raises(PolicyError) as error:
        parse_rbac(document)
    assert str(error.value) == message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("*"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


def outcome(document: object) -> RbacDocument | str:
    try:
        return parse_rbac(document)
    except PolicyError as error:
        return str(error)


@given(VALUES, st.dictionaries(st.sampled_from(list(FULL)), VALUES))
def test_no_document_raises_anything_but_a_policy_error(value: object, keys) -> None:
    for document in (
        value,
        {"roles": value},
        {"roles": [{"name": "a", "clusters": value}]},
        {"roles": [{"name": "a", "clusters": [{**rule(), **keys}]}]},
        {"users": value},
        {"users": [{"email": "a@b.c", "roles": value}]},
    ):
        found = outcome(document)
        if isinstance(found, str):
            assert found.isprintable()
            continue
        again = [{"name": role.name, "clusters": role.document()} for role in found.roles]
        assert parse_rbac({"roles": again}).roles == found.roles
