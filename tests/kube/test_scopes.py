"""What mk8s knows of the scopes of Kubernetes's own resources is what the cluster discovers."""

import json

import pytest

from mk8s_proxy.authz.scopes import Scope, known_resources, scope_of
from tests.support.world import World

pytestmark = [pytest.mark.kube, pytest.mark.oldest]


def discovered(world: World) -> dict[tuple[str, str], bool]:
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


def test_every_resource_of_kubernetes_has_the_scope_that_discovery_says(world: World) -> None:
    known_groups = {group for group, _ in known_resources("*")}
    found = discovered(world)
    wrong = {
        kind: namespaced
        for kind, namespaced in found.items()
        if kind[0] in known_groups
        and scope_of(*kind) is not (Scope.NAMESPACED if namespaced else Scope.CLUSTER)
    }
    assert not wrong
    own = {group for group, _ in found if "." not in group or group.endswith(".k8s.io")}
    assert own <= known_groups
