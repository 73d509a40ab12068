"""Groups at the command line: `mk8s admin groups`, and those of a policy file."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run
from tests.cli.fake_central import FakeCentral

GROUPS = ("admin", "groups")


@pytest.fixture(autouse=True)
def administrator(logged_in: object, central: FakeCentral) -> None:
    central.admin = True


def test_groups_are_listed(run: Run, central: FakeCentral) -> None:
    central.groups = [
        {"name": "acme:devs", "roles": ["a", "b"], "members": []},
        {"name": "devs", "roles": [], "members": ["dev@example.com"]},
    ]
    lines = run(*GROUPS, "list").out.splitlines()
    assert lines[0].split() == ["NAME", "ROLES", "MEMBERS"]
    assert lines[1].split() == ["acme:devs", "a,b", "(the", "issuer's)"]
    assert lines[2].split() == ["devs", "-", "dev@example.com"]
    assert json.loads(run(*GROUPS, "list", "-o", "json").out)[0]["name"] == "acme:devs"


def test_groups_are_changed(run: Run, central: FakeCentral) -> None:
    told = run(*GROUPS, "set-roles", "acme:/k8s/a b", "developer", "viewer").out
    assert told == "roles of the group acme:/k8s/a b: developer, viewer\n"
    path = "/groups/acme:/k8s/a b/roles"
    assert central.body("PUT", path) == {"roles": ["developer", "viewer"]}
    assert run(*GROUPS, "set-members", "devs").out == "members of the group devs: none\n"
    assert central.body("PUT", "/groups/devs/members") == {"members": []}
    run(*GROUPS, "set-members", "devs", "dev@example.com")
    assert central.body("PUT", "/groups/devs/members") == {"members": ["dev@example.com"]}
    assert run(*GROUPS, "remove", "devs", "--yes").out == "group devs is deleted\n"
    assert central.count("DELETE", "/groups/devs") == 1
    assert "add --yes" in run(*GROUPS, "remove", "devs").line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("set-roles", "a\nb"), "is not a group's name"),
        (("set-roles", ""), "is not a group's name"),
        (("set-members", "devs", "dev"), "is not an email address"),
        (("remove", "x" * 257, "--yes"), "is not a group's name"),
    ],
)
def test_what_is_no_name_is_not_sent(
    run: Run, central: FakeCentral, words: tuple[str, ...], message: str
) -> None:
    refused = run(*GROUPS, *words)
    assert refused.code
    assert message in refused.line
    assert not [call for call in central.calls if call[0] in ("PUT", "DELETE")]


def write(path: Path, document: Any) -> str:
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_groups_of_a_file(run: Run, central: FakeCentral, tmp_path: Path) -> None:
    groups = [
        {"name": "devs", "roles": ["a"], "members": ["dev@example.com"]},
        {"name": "acme:devs", "roles": ["a"]},
    ]
    run("admin", "apply", "-f", write(tmp_path / "rbac.yaml", {"groups": groups}))
    assert central.body("POST", "/rbac")["groups"] == groups
    run("admin", "apply", "-f", write(tmp_path / "rbac.yaml", {"users": []}))
    assert "groups" not in central.body("POST", "/rbac"), "older centrals know none"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"roles": []}], "groups[0].name must be a group's name"),
        ([{"name": "a", "role": []}], "unknown key 'role'"),
        ([{"name": "a", "roles": "b"}], "groups[0].roles must be a list of names"),
        ([{"name": "a", "members": [1]}], "groups[0].members must be a list of names"),
        ([{"name": "a"}, {"name": "a"}], "the group a is there twice"),
        ({"name": "a"}, "groups must be a list"),
        (["a"], "groups[0].name must be a group's name"),
    ],
)
def test_mistakes_in_a_file(
    run: Run, central: FakeCentral, tmp_path: Path, groups: Any, message: str
) -> None:
    refused = run("admin", "apply", "-f", write(tmp_path / "rbac.yaml", {"groups": groups}))
    assert refused.code
    assert message in refused.line
    assert not central.count("POST", "/rbac")
