"""Which cluster a request addresses: the host name, the path, or neither."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.api.application import ENDPOINTS
from mk8s_proxy.chain.addresses import MANAGEMENT_PATHS, Route, Router

PODS = b"/api/v1/pods?watch=1"


@pytest.mark.parametrize(
    ("target", "route"),
    [
        (b"/k8s/prod" + PODS, Route(PODS, "prod", b"/k8s/prod")),
        (b"/k8s/a/", Route(b"/", "a", b"/k8s/a")),
        (b"/k8s/a/k8s/b/api", Route(b"/k8s/b/api", "a", b"/k8s/a")),  # cut off once
        (b"/k8s/a//api", Route(b"//api", "a", b"/k8s/a")),
        (b"/k8s/" + b"x" * 63 + b"/v", Route(b"/v", "x" * 63, b"/k8s/" + b"x" * 63)),
        (b"/k8s/" + b"x" * 64 + b"/v", Route(b"/k8s/" + b"x" * 64 + b"/v")),
        (b"/k8s/prod", Route(b"/", "prod", b"/k8s/prod")),
        (b"/k8s/prod?x=/", Route(b"/?x=/", "prod", b"/k8s/prod")),
        (b"/k8s/prod%2fapi", Route(b"/k8s/prod%2fapi")),
        (b"/k8s/prod\n/api", Route(b"/k8s/prod\n/api")),
        (b"/k8s//api", Route(b"/k8s//api")),
        (b"/k8s/Prod/api", Route(b"/k8s/Prod/api")),
        (b"/k8s/%70rod/api", Route(b"/k8s/%70rod/api")),
        (b"/k8s/../api", Route(b"/k8s/../api")),
        (b"/k8s/-a/api", Route(b"/k8s/-a/api")),
        (PODS, Route(PODS)),
        (b"/", Route(b"/")),
        (b"/auth/login", Route(b"/auth/login", management=True)),
        (b"/clusters?limit=1", Route(b"/clusters?limit=1", management=True)),
        (b"/clustersx", Route(b"/clustersx")),
        (b"/AUTH/login", Route(b"/AUTH/login")),
        (b"/%61uth/login", Route(b"/%61uth/login")),
        (b"//auth/login", Route(b"//auth/login")),
    ],
)
def test_paths(target: bytes, route: Route) -> None:
    assert Router().split(b"central.example.com", target) == route


@pytest.mark.parametrize("first", sorted(MANAGEMENT_PATHS))
def test_what_belongs_to_central_itself(first: bytes) -> None:
    assert Router().split(b"c", b"/" + first).management
    assert Router().split(b"c", b"/" + first + b"/x?y").management


@pytest.mark.parametrize(
    ("authority", "cluster"),
    [
        (b"prod.k8s.example.com", "prod"),
        (b"prod.k8s.example.com:8443", "prod"),
        (b"k8s.example.com", ""),
        (b".k8s.example.com", ""),
        (b"a.b.k8s.example.com", ""),
        (b"prod.k8s.example.com.evil.org", ""),
        (b"prodk8s.example.com", ""),
        (b"[::1]:8443", ""),
        (b"", ""),
    ],
)
def test_host_names(authority: bytes, cluster: str) -> None:
    route = Router("k8s.example.com").split(authority, b"/auth/login")
    assert route == Route(b"/auth/login", cluster, management=not cluster)
    assert Router().split(authority, PODS) == Route(PODS)


def test_a_host_name_leaves_the_path_alone() -> None:
    """The path of another cluster is then only a path that the API server does not know."""
    route = Router("k8s.example.com").split(b"a.k8s.example.com", b"/k8s/b/api/v1/secrets")
    assert route == Route(b"/k8s/b/api/v1/secrets", "a")


@given(st.binary(max_size=30), st.binary(max_size=60))
def test_any_bytes_have_one_route(authority: bytes, target: bytes) -> None:
    route = Router("k8s.example.com").split(authority, b"/k8s/" + target)
    whole = route.prefix + route.target
    assert (
        whole == b"/k8s/" + target
        or (  # the root of a cluster without its slash
            route.target[1:2] in (b"", b"?")
            and route.prefix + route.target[1:] == b"/k8s/" + target
        )
    )
    assert bool(route.prefix) <= bool(route.cluster)


def test_every_endpoint_of_the_management_api_is_reached() -> None:
    first = {endpoint.path.split("/")[1].encode() for endpoint in ENDPOINTS}
    assert first | {b"openapi.json"} == MANAGEMENT_PATHS
