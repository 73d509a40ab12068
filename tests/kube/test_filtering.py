"""Roles limited to namespaces or names: lists and watches of everything show what is visible."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import kubectl as kubectls
from tests.support.cast import Rules, enrol
from tests.support.kubectl import Kubectl
from tests.support.wire import send, token_of
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube, pytest.mark.oldest]


@pytest.fixture(params=kubectls.few(), ids=kubectls.name_of)
def binary(request: pytest.FixtureRequest) -> Path:
    """A few stock kubectls: the answers come from central."""
    found: Path = request.param
    return found


LOOK = ["get", "list", "watch"]
Act = Callable[[str], Kubectl]


@dataclass(frozen=True, slots=True)
class Scene:
    """Two namespaces full of config maps, and people who see only some of them."""

    seen: str
    hidden: str
    people: dict[str, Person]


def names(output: str) -> set[str]:
    return {line.partition("/")[2] for line in output.split()}


def rules_of(seen: str, hidden: str) -> dict[str, Rules]:
    everything = {"name": "prod", "verbs": LOOK, "resources": ["*"]}
    return {
        "team": [everything | {"namespaces": [seen]}],
        "web": [everything | {"namespaces": [seen], "names": ["web-*"]}],
        "auditor": [
            everything | {"namespaces": ["*"]},
            everything | {"namespaces": [hidden], "deny": True},
        ],
    }


def fill(world: World, namespace: str) -> None:
    world.direct("create", "namespace", namespace)
    for name in ("web-1", "web-2", "db-1"):
        world.direct("-n", namespace, "create", "configmap", name, f"--from-literal=in={namespace}")


@pytest.fixture(scope="module")
def scene(world: World) -> Iterator[Scene]:
    seen, hidden = world.fresh_name("seen"), world.fresh_name("hidden")
    for namespace in (seen, hidden):
        fill(world, namespace)
    people = {
        name: enrol(world, world.fresh_name(name), rules)
        for name, rules in rules_of(seen, hidden).items()
    }
    yield Scene(seen, hidden, people)
    for namespace in (seen, hidden):
        world.direct("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def act(scene: Scene, binary: Path) -> Act:
    """Each kubectl in the hands of one of the people."""
    return lambda name: scene.people[name].kubectl(binary)


# -- lists -----------------------------------------------------------------------------------------


def test_all_namespaces_show_the_visible_ones_in_every_form(act: Act, scene: Scene) -> None:
    kubectl = act("team")
    get = ("get", "configmaps", "-A")
    table = kubectl(*get).stdout
    assert table.splitlines()[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert {line.split()[0] for line in table.splitlines()[1:]} == {scene.seen}
    assert {"web-1", "web-2", "db-1"} <= {line.split()[1] for line in table.splitlines()[1:]}
    wide = kubectl(*get, "-o", "wide", "--show-labels", "--sort-by=.metadata.name").stdout
    for output in (wide, kubectl(*get, "-o", "yaml").stdout):
        assert scene.seen in output
        assert scene.hidden not in output
    document = json.loads(kubectl(*get, "-o", "json").stdout)
    assert {one["metadata"]["namespace"] for one in document["items"]} == {scene.seen}
    assert names(kubectl(*get, "-o", "name", "-l", "none=such").stdout) == set()


def test_namespaces_show_the_visible_ones(act: Act, scene: Scene) -> None:
    assert names(act("team")("get", "namespaces", "-o", "name").stdout) == {scene.seen}
    every = names(act("auditor")("get", "namespaces", "-o", "name").stdout)
    assert scene.hidden not in every
    assert {scene.seen, "default", "kube-system"} <= every


def test_pages_of_two_come_together_again(act: Act, scene: Scene) -> None:
    for output in ((), ("-o", "name"), ("-o", "json")):
        get = ("get", "configmaps", "-A", *output)
        whole = act("team")(*get).stdout
        paged = act("team")(*get, "--chunk-size=2").stdout
        assert scene.hidden not in paged
        if "json" in output:
            assert json.loads(paged)["items"] == json.loads(whole)["items"]
        else:  # but for the last column, the age
            shown, wanted = (
                [line.split()[:3] for line in text.splitlines()] for text in (paged, whole)
            )
            assert shown == wanted


def test_a_role_of_names_shows_those_in_one_and_in_all_namespaces(act: Act, scene: Scene) -> None:
    for where in (("-n", scene.seen), ("-A",)):
        shown = act("web")("get", "configmaps", *where, "-o", "name").stdout
        assert names(shown) == {"web-1", "web-2"}
    one = ("get", "configmaps", "-n", scene.seen, "--field-selector")
    assert names(act("web")(*one, "metadata.name=web-1", "-o", "name").stdout) == {"web-1"}
    refused = act("web")(*one, "metadata.name=db-1", code=1).stderr
    assert "Forbidden" in refused


def test_a_denied_namespace_is_missing_from_everything_else(act: Act, scene: Scene) -> None:
    output = act("auditor")("get", "configmaps", "-A").stdout
    assert scene.hidden not in output
    assert scene.seen in output
    assert "kube-system" in output
    assert "web" in act("auditor")("get", "pods", "-A", "-o", "wide").stdout


def test_what_the_role_does_not_name_is_refused_and_not_shown_empty(act: Act) -> None:
    refused = act("team")("get", "nodes", code=1).stderr
    assert 'cannot list resource "nodes"' in refused


# -- watches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output", [(), ("-o", "name"), ("-o", "json")], ids=["table", "name", "json"]
)
def test_a_watch_shows_changes_of_the_visible_only(
    act: Act, scene: Scene, world: World, output: tuple[str, ...]
) -> None:
    fresh = world.fresh_name("new")
    with act("team").start("get", "configmaps", "-A", "--watch-only", *output) as watching:
        for namespace in (scene.hidden, scene.seen):  # it may take a moment to begin
            world.direct("-n", namespace, "create", "configmap", f"{fresh}-0")
        for number in range(1, 30):
            for namespace in (scene.hidden, scene.seen):
                world.direct("-n", namespace, "create", "configmap", f"{fresh}-{number}")
            if fresh in watching.output:
                break
        watching.wait_for_line(rf"{fresh}-\d")
        assert scene.hidden not in watching.output
        assert not output or "NAME" not in watching.output
        assert output or watching.output.splitlines()[0].split()[:2] == ["NAMESPACE", "NAME"]


# -- the wire --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask(scene: Scene, world: World) -> Callable[..., Any]:
    token = token_of(scene.people["team"], world, "prod")

    def asked(target: str, *, code: int = 200, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = send(world, target, token=token, headers=named)
        assert answer.code == code, answer
        assert answer.headers["content-type"].startswith("application/json")
        return json.loads(answer.body)

    return asked


def test_a_client_that_asks_for_protobuf_or_gzip_gets_plain_json(
    ask: Callable[..., Any], scene: Scene
) -> None:
    for accept in ("application/vnd.kubernetes.protobuf", "application/yaml", "*/*"):
        listed = ask("/api/v1/configmaps", accept=accept, accept_encoding="gzip")
        assert listed["kind"] == "ConfigMapList"
        assert {one["metadata"]["namespace"] for one in listed["items"]} == {scene.seen}


def test_hidden_objects_leak_neither_by_count_nor_by_page_token(
    ask: Callable[..., Any], scene: Scene, world: World
) -> None:
    many = [
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": f"many-{number}"}}
        for number in range(600)
    ]
    document = json.dumps({"kind": "List", "apiVersion": "v1", "items": many})
    world.direct("-n", scene.hidden, "create", "-f", "-", stdin=document)
    found, token, pages = [], "", 0
    while pages == 0 or token:
        listed = ask(f"/api/v1/configmaps?limit=1&continue={quote(token)}")
        assert "remainingItemCount" not in listed["metadata"]
        found += [one["metadata"]["name"] for one in listed["items"]]
        token, pages = listed["metadata"].get("continue", ""), pages + 1
    assert sorted(found) == sorted(set(found))
    assert {"web-1", "web-2", "db-1"} <= set(found)
    assert pages > 1


def test_a_page_token_of_the_api_server_has_expired(ask: Callable[..., Any], world: World) -> None:
    listed = json.loads(world.direct("get", "--raw", "/api/v1/configmaps?limit=1").stdout)
    token = quote(listed["metadata"]["continue"])
    status = ask(f"/api/v1/configmaps?limit=1&continue={token}", code=410)
    assert status["reason"] == "Expired"


def test_a_table_without_objects_is_filtered_and_stays_without(
    ask: Callable[..., Any], scene: Scene, world: World
) -> None:
    target = "/api/v1/configmaps?includeObject=None"
    table = ask(target, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert table["kind"] == "Table"
    assert {"web-1", "db-1"} <= {row["cells"][0] for row in table["rows"]}
    assert all(row["object"] is None for row in table["rows"])
    uris = [row["requestURI"] for row in world.audit(objectRef__resource="configmaps")]
    assert any(uri.endswith("?includeObject=None") for uri in uris)


def test_errors_of_the_api_server_pass_as_they_are(ask: Callable[..., Any]) -> None:
    status = ask("/api/v1/configmaps?labelSelector=!!", code=400)
    assert status["kind"] == "Status"
