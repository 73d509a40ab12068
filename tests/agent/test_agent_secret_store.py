"""What the agent asks the API server for itself: its Secret and the version, over real TLS."""

import base64
import time

import pytest

from mk8s_agent.apiserver.own_requests import (
    ApiServerUnreachable,
    OwnResources,
    kubernetes_version,
    request_as_agent,
)
from mk8s_agent.credentials.token_sources import (
    StaticSource,
)
from mk8s_agent.identity.secret_store import SecretStore
from mk8s_agent.identity.store import AgentIdentity, IdentityError
from mk8s_agent.wire.control import MAX_KINDS
from tests.agent.api_server_for_tests import ApiServerForTests
from tests.agent.pki_for_tests import Issuer


@pytest.fixture(scope="module")
def identity() -> AgentIdentity:
    return Issuer().identity("c-1", time.time(), time.time() + 86_400)


@pytest.fixture
def server() -> ApiServerForTests:
    return ApiServerForTests()


async def test_what_is_saved_is_loaded(server: ApiServerForTests, identity: AgentIdentity) -> None:
    async with server.serve() as credentials:
        store = SecretStore(credentials, "mk8s", "identity")
        assert await store.load() is None
        await store.check_writable()
        assert server.secret == {}
        await store.save(identity)
        assert await store.load() == identity
    assert server.patches == ["dryRun=All", ""]
    assert store.location == "Secret mk8s/identity"


async def test_a_secret_that_does_not_exist(server: ApiServerForTests) -> None:
    server.secret = None
    async with server.serve() as credentials:
        with pytest.raises(
            IdentityError, match=r"answered 404 .* see deploy/kubernetes/agent.yaml"
        ):
            await SecretStore(credentials, "mk8s", "identity").load()


async def test_a_secret_that_may_not_be_changed(server: ApiServerForTests) -> None:
    server.refuse_patch = True
    async with server.serve() as credentials:
        with pytest.raises(IdentityError, match="answered 403 for Secret mk8s/identity"):
            await SecretStore(credentials, "mk8s", "identity").check_writable()


@pytest.mark.parametrize("content", ["%%%", base64.b64encode(b"{}").decode()])
async def test_a_damaged_secret(server: ApiServerForTests, content: str) -> None:
    server.secret = {"identity.json": content}
    async with server.serve() as credentials:
        with pytest.raises(IdentityError, match="Secret mk8s/identity is damaged"):
            await SecretStore(credentials, "mk8s", "identity").load()


async def test_an_api_server_that_is_down(server: ApiServerForTests) -> None:
    async with server.serve() as credentials:
        pass
    with pytest.raises(IdentityError, match=r"identity: cannot connect to .*: Connection refused"):
        await SecretStore(credentials, "mk8s", "identity").load()


async def test_version(server: ApiServerForTests) -> None:
    async with server.serve() as credentials:
        assert await kubernetes_version(credentials) == "v1.31.2"
        credentials.path_prefix = "/prefix"
        assert await kubernetes_version(credentials) == "v1.31.2"


def group(name: str, **scopes: str) -> dict[str, object]:
    resources = [{"resource": resource, "scope": scope} for resource, scope in scopes.items()]
    return {"metadata": {"name": name} if name else {}, "versions": [{"resources": resources}]}


async def test_scopes_of_resources(server: ApiServerForTests) -> None:
    server.discovery = {
        "/api": {"items": [group("", pods="Namespaced", nodes="Cluster")]},
        "/apis": {
            "items": [
                group("apps", deployments="Namespaced"),
                group("storage.k8s.io", storageclasses="Cluster"),
                group("example.com", things="Cluster"),
                {"metadata": {"name": "batch"}, "versions": [{"freshness": "Stale"}]},
            ]
        },
    }
    async with server.serve() as credentials:
        cluster_scoped, namespaced = await OwnResources().ask(credentials)
    assert cluster_scoped == ("nodes", "storageclasses.storage.k8s.io")
    assert namespaced == ("deployments.apps", "pods")


MANY = {f"r{number}": "Cluster" for number in range(MAX_KINDS + 1)}


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "APIGroupList", "groups": []},
        [],
        {"items": [{"metadata": {}}]},
        {"items": [{"metadata": {}, "versions": [{"resources": [{"resource": "a"}]}]}]},
        {"items": [group("apps", **MANY)]},
        {"items": [group("apps", UPPER_case="Cluster")]},
        None,
    ],
)
async def test_scopes_that_cannot_be_told(server: ApiServerForTests, answer: object) -> None:
    server.discovery = {"/api": answer, "/apis": answer} if answer is not None else {}
    async with server.serve() as credentials:
        assert await OwnResources().ask(credentials) == ((), ())


async def test_what_has_not_changed_is_not_sent_again(server: ApiServerForTests) -> None:
    core = {"items": [group("", pods="Namespaced")]}
    server.discovery = {"/api": core, "/apis": {"items": [group("apps", deployments="Namespaced")]}}
    resources = OwnResources()
    async with server.serve() as credentials:
        first = await resources.ask(credentials)
        assert server.unchanged == []
        assert await resources.ask(credentials) == first
        assert server.unchanged == ["/api", "/apis"]
        crd = group("gateway.networking.k8s.io", gatewayclasses="Cluster")
        server.discovery["/apis"] = {"items": [crd]}
        found = await resources.ask(credentials)
        assert server.unchanged == ["/api", "/apis", "/api"]
        server.discovery["/apis"] = {"kind": "APIGroupList"}
        assert await resources.ask(credentials) == ((), ())
        server.discovery["/apis"] = {"items": [crd]}
        assert await resources.ask(credentials) == found
    assert found == (("gatewayclasses.gateway.networking.k8s.io",), ("pods",))


async def test_an_answer_of_304_to_no_question(server: ApiServerForTests) -> None:
    server.discovery, server.always_unchanged = {"/api": {}, "/apis": {}}, True
    async with server.serve() as credentials:
        assert await OwnResources().ask(credentials) == ((), ())


@pytest.mark.parametrize("version", [b"", [], {}, {"gitVersion": 1}, {"gitVersion": "v1\x1b[2J"}])
async def test_no_version(server: ApiServerForTests, version: object) -> None:
    server.version = version
    async with server.serve() as credentials:
        with pytest.raises(ApiServerUnreachable, match="answered 200 without a version"):
            await kubernetes_version(credentials)


async def test_api_server_of_another_authority(server: ApiServerForTests) -> None:
    other = ApiServerForTests()
    async with server.serve():
        credentials = server.credentials(ca_pem=other.authority.cert_pem.bytes())
        with pytest.raises(ApiServerUnreachable, match=r"cannot connect .*: unable to get local"):
            await request_as_agent(credentials, "GET", "/version")


async def test_a_name_that_nobody_knows(server: ApiServerForTests) -> None:
    credentials = server.credentials(host="absent.invalid", port=1)
    with pytest.raises(ApiServerUnreachable, match=r"cannot connect to .* at absent.invalid:1: \w"):
        await request_as_agent(credentials, "GET", "/version")


async def test_without_a_credential_nothing_is_asked(server: ApiServerForTests) -> None:
    async with server.serve():
        credentials = server.credentials(source=StaticSource(""))
        with pytest.raises(ApiServerUnreachable, match="neither a token nor a client certificate"):
            await request_as_agent(credentials, "GET", "/version")


async def test_with_a_client_certificate_no_token_is_sent(server: ApiServerForTests) -> None:
    leaf = server.authority.issue_cert("agent@example.com")
    pair = (leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())
    async with server.serve():
        credentials = server.credentials(source=StaticSource(""), client_certificate=pair)
        assert await kubernetes_version(credentials) == "v1.31.2"


async def test_an_endless_answer_is_cut(server: ApiServerForTests) -> None:
    server.version = b"x" * (2 * 1024 * 1024 + 1)
    async with server.serve() as credentials:
        with pytest.raises(ApiServerUnreachable, match="longer than 2097152 bytes"):
            await kubernetes_version(credentials)
