"""What mk8s knows of the scopes of Kubernetes's own resources is what the cluster discovers."""

import asyncio
import json

import pytest

from mk8s_agent.apiserver.own_requests import OwnResources
from mk8s_agent.credentials.sources import load_credentials
from mk8s_proxy.authz.access import Access
from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.scopes import Kind, Scope, known_resources
from tests.support.world import World

pytestmark = [pytest.mark.kube, pytest.mark.oldest]


def discovered(world: World) -> dict[Kind, bool]:
    """Group and resource of everything that the API server has, and whether it is namespaced."""
    groups = json.loads(world.direct("get", "--raw", "/apis").stdout)["groups"]
    paths = {"": ["/api/v1"]} | {
        group["name"]: [f"/apis/{version['groupVersion']}" for version in group["versions"]]
        for group in groups
    }
    found = {}
    for group, documents in paths.items():
        for path in documents:
            for one in json.loads(world.direct("get", "--raw", path).stdout)["resources"]:
                if "/" not in one["name"]:
                    found[group, one["name"]] = one["namespaced"]
    return found


async def told_by_the_agent(world: World) -> tuple[tuple[str, ...], tuple[str, ...]]:
    credentials = await load_credentials(
        kubeconfig=str(world.clusters["prod"]), environment={}, home=world.folder
    )
    return await OwnResources().ask(credentials)


def test_every_resource_of_kubernetes_has_the_scope_that_discovery_says(world: World) -> None:
    """By what the agent tells, or by the list for clusters that are too old to say it."""
    told = asyncio.run(told_by_the_agent(world))
    if world.server_version >= (1, 26):
        assert "namespaces" in told[0]
        assert "pods" in told[1]
    scopes = ClusterFacts()
    scopes.learn("prod", *told)
    access = Access(1, (), (), scopes.scopes_of("prod"))
    known_groups = {group for group, _ in known_resources("*")}
    wrong = {
        kind: namespaced
        for kind, namespaced in discovered(world).items()
        if kind[0] in known_groups
        and access.with_scope(Attributes("list", *kind)).place
        is not (Scope.NAMESPACED if namespaced else Scope.CLUSTER)
    }
    assert not wrong
