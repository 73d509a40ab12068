"""Deletions of collections by people who may delete only some of the objects."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubectl as kubectls
from tests.support.cast import enrol
from tests.support.wire import Answer, send, token_of
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube, pytest.mark.oldest]

NAMES = ("db-1", "web-1", "web-2")
Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def cleaner(world: World) -> Person:
    """Somebody who may look at everything and delete what is called web-*."""
    some = {"name": "prod", "namespaces": ["*"], "resources": ["*"]}
    rules = [
        some | {"verbs": ["get", "list"]},
        some | {"verbs": ["delete", "deletecollection"], "names": ["web-*"]},
        {"name": "prod", "namespaces": [""], "verbs": ["*"], "resources": ["*"], "names": ["x"]},
    ]
    return enrol(world, world.fresh_name("cleaner"), rules)


@pytest.fixture(scope="module")
def ask(cleaner: Person, world: World) -> Ask:
    token = token_of(cleaner, world, "prod")

    def asked(target: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return send(world, target, token=token, method="DELETE", headers=named, body=body)

    return asked


@pytest.fixture
def shop(world: World) -> Iterator[str]:
    """A namespace with three labelled config maps."""
    name = world.fresh_name("shop")
    world.direct("create", "namespace", name)
    fill(world, name, *NAMES)
    yield name
    world.direct("delete", "namespace", name, "--wait=false")


def fill(world: World, namespace: str, *names: str) -> None:
    items = [
        {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": name, "labels": {"of": "us"}},
        }
        for name in names
    ]
    document = json.dumps({"kind": "List", "apiVersion": "v1", "items": items})
    world.direct("-n", namespace, "create", "-f", "-", stdin=document)


def left(world: World, namespace: str) -> set[str]:
    """The labelled config maps that are still there."""
    shown = world.direct("-n", namespace, "get", "configmaps", "-l", "of=us", "-o", "name").stdout
    return {line.partition("/")[2] for line in shown.split()}


def path_of(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def names_in(document: Any) -> list[str]:
    return [one["metadata"]["name"] for one in document["items"]]


def test_a_deletion_of_everything_takes_the_visible_and_looks_like_the_api_servers(
    ask: Ask, shop: str, world: World
) -> None:
    document = json.loads(ask(f"{path_of(shop)}?labelSelector=of%3Dus").body)
    assert names_in(document) == ["web-1", "web-2"]
    assert left(world, shop) == {"db-1"}
    raw = f"{path_of(shop)}?labelSelector=of%3Dus"
    theirs = json.loads(world.direct("delete", "--raw", raw).stdout)
    assert names_in(theirs) == ["db-1"]
    assert document.keys() == theirs.keys()
    assert document["kind"], document["apiVersion"] == (theirs["kind"], theirs["apiVersion"])
    assert document["metadata"].keys() == theirs["metadata"].keys()
    assert document["items"][0].keys() == theirs["items"][0].keys()
    assert document["items"][0]["metadata"].keys() == theirs["items"][0]["metadata"].keys()


def test_nothing_but_deletions_by_name_reaches_the_cluster(
    ask: Ask, shop: str, world: World
) -> None:
    assert ask(path_of(shop)).code == 200
    reached = [
        (row["verb"], row["objectRef"].get("name"))
        for row in world.upstream_audit()
        if row.get("objectRef", {}).get("namespace") == shop
    ]
    assert sorted(reached, key=str) == [("delete", "web-1"), ("delete", "web-2"), ("list", None)]
    rows = world.audit(objectRef__namespace=shop, stage="ResponseComplete")
    [whole] = [row for row in rows if row["verb"] == "deletecollection"]
    parts = [row for row in rows if row is not whole]
    assert len(parts) == 3
    for row in parts:
        assert row["annotations"]["mk8s.io/parent-audit-id"] == whole["auditID"]
        assert row["responseStatus"]["code"] == 200


@pytest.mark.parametrize("in_body", [True, False])
def test_a_dry_run_deletes_nothing(ask: Ask, shop: str, world: World, in_body: bool) -> None:
    if in_body:
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}
        body = json.dumps(options).encode()
        answer = ask(path_of(shop), body, content_type="application/json")
    else:
        answer = ask(f"{path_of(shop)}?dryRun=All")
    assert names_in(json.loads(answer.body)) == ["web-1", "web-2"]
    assert left(world, shop) == set(NAMES)


def test_options_are_judged_by_the_api_server(ask: Ask, shop: str, world: World) -> None:
    answer = ask(f"{path_of(shop)}?propagationPolicy=Sideways")
    theirs = world.direct("delete", "--raw", f"{path_of(shop)}?propagationPolicy=Sideways", code=1)
    assert answer.status["reason"] == "Invalid"
    assert answer.status["message"].partition(" is invalid")[2] in theirs.stderr
    answer = ask(f"{path_of(shop)}?uid=not-this-one")
    assert answer.status["reason"] == "Conflict"
    assert left(world, shop) == set(NAMES)


def test_a_table_and_metadata_alone(ask: Ask, shop: str) -> None:
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    table = json.loads(ask(f"{path_of(shop)}?dryRun=All", accept=accept).body)
    assert [row["cells"][0] for row in table["rows"]] == ["web-1", "web-2"]
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = json.loads(ask(f"{path_of(shop)}?dryRun=All", accept=accept).body)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert names_in(listed) == ["web-1", "web-2"]


@pytest.mark.parametrize("target", ["/api/v1/configmaps", "/api/v1/namespaces", "/api/v1/nothings"])
def test_what_the_api_server_does_not_offer(ask: Ask, world: World, target: str) -> None:
    answer = ask(target)
    theirs = world.direct("delete", "--raw", target, code=1).stderr
    assert answer.code in (404, 405)
    assert answer.status["reason"] in theirs.replace(" ", "") or answer.status["message"] in theirs


def test_more_than_a_page(ask: Ask, shop: str, world: World) -> None:
    many = [f"{kind}-many-{number}" for kind in ("db", "web") for number in range(300)]
    fill(world, shop, *many)
    document = json.loads(ask(f"{path_of(shop)}?labelSelector=of%3Dus").body)
    assert len(names_in(document)) == 302
    assert left(world, shop) == {name for name in (*many, "db-1") if name.startswith("db")}


def test_kubectl_deletes_by_name_what_it_lists_and_the_collection_by_its_path(
    cleaner: Person, shop: str, world: World
) -> None:
    for binary in kubectls.few():
        kubectl = cleaner.kubectl(Path(binary))
        raw = kubectl("delete", "--raw", f"{path_of(shop)}?labelSelector=of%3Dus").stdout
        assert names_in(json.loads(raw)) == ["web-1", "web-2"]
        assert left(world, shop) == {"db-1"}
        fill(world, shop, "web-1", "web-2")
        refused = kubectl("-n", shop, "delete", "configmaps", "-l", "of=us", code=1)
        assert 'cannot delete resource "configmaps"' in refused.stderr
        assert left(world, shop) == {"db-1"}
        fill(world, shop, "web-1", "web-2")
