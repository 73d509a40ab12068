"""CA, client certificate and key that are renewed while the agent runs."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from mk8s_agent.apiserver.dial import ApiServerDial
from mk8s_agent.apiserver.own_requests import ApiServerUnreachable, kubernetes_version
from mk8s_agent.credentials.sources import ApiServerCredentials, load_credentials
from mk8s_agent.credentials.trust_files import LOOK_SECONDS, TrustFiles
from tests.agent.api_server_for_tests import ApiServerForTests
from tests.support.agent_side import AgentSide


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mk8s_agent.credentials.trust_files.time.monotonic", clock)
    defaults = dict(TrustFiles.__init__.__kwdefaults__, monotonic=clock)
    monkeypatch.setattr(TrustFiles.__init__, "__kwdefaults__", defaults)
    return clock


def renew(path: Path, content: bytes, *, in_place: bool = False) -> None:
    """As a kubelet does, or as an editor."""
    if in_place:
        path.write_bytes(content)
        return
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


def write_identity(folder: Path, authority: trustme.CA) -> None:
    leaf = authority.issue_cert("client@example.com")
    renew(folder / "client.pem", leaf.cert_chain_pems[0].bytes())
    renew(folder / "client.key", leaf.private_key_pem.bytes())


async def by_kubeconfig(folder: Path, port: int = 6443, **cluster: Any) -> ApiServerCredentials:
    entry = {"server": f"https://127.0.0.1:{port}", **cluster}
    user = {"client-certificate": "client.pem", "client-key": "client.key"}
    document = {
        "clusters": [{"name": "c", "cluster": entry}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "config").write_text(yaml.safe_dump(document))
    return await load_credentials(kubeconfig=str(folder / "config"), environment={}, home=folder)


async def test_a_new_ca_is_trusted_without_a_restart(tmp_path: Path, clock: Clock) -> None:
    """The API server's certificate is signed by a new CA, and its file follows."""
    write_identity(tmp_path, trustme.CA())
    server = ApiServerForTests()
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    async with server.serve() as credentials_of_server:
        mine = await by_kubeconfig(
            tmp_path,
            server.port,
            **{"certificate-authority": "ca.pem", "tls-server-name": "kubernetes.default"},
        )
        mine.source = credentials_of_server.source
        with pytest.raises(ApiServerUnreachable, match=r"unable to get|self.signed|verify"):
            await kubernetes_version(mine)
        renew(tmp_path / "ca.pem", server.authority.cert_pem.bytes())
        clock.now += LOOK_SECONDS
        assert await kubernetes_version(mine) == "v1.31.2"


@pytest.mark.parametrize("in_place", [False, True])
async def test_the_ca_of_a_pod(tmp_path: Path, clock: Clock, in_place: bool) -> None:
    first, second = trustme.CA(), trustme.CA()
    (tmp_path / "ca.crt").write_bytes(first.cert_pem.bytes())
    (tmp_path / "token").write_text("t")
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    found = await load_credentials(environment=environment, home=tmp_path, service_account=tmp_path)
    dial = ApiServerDial(found)
    before = dial.contexts()
    clock.now += LOOK_SECONDS
    assert dial.contexts() is before
    renew(tmp_path / "ca.crt", second.cert_pem.bytes() + b"\n", in_place=in_place)
    clock.now += LOOK_SECONDS
    assert dial.contexts() is not before
    assert found.ca_pem == second.cert_pem.bytes() + b"\n"


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nMIIB", b"\xff"])
async def test_a_ca_file_that_is_half_written_keeps_the_old_one(
    tmp_path: Path, clock: Clock, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    authority = trustme.CA().cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes(authority)
    write_identity(tmp_path, trustme.CA())
    found = await by_kubeconfig(tmp_path, **{"certificate-authority": "ca.pem"})
    renew(tmp_path / "ca.pem", content, in_place=True)
    for _ in range(3):
        clock.now += LOOK_SECONDS
        found.refresh()
    assert (found.ca_pem, found.generation) == (authority, 0)
    said = [it for it in caplog.records if it.message == "credential.files_not_usable"]
    assert len(said) == 1
    whole = trustme.CA().cert_pem.bytes()
    renew(tmp_path / "ca.pem", whole, in_place=True)
    clock.now += LOOK_SECONDS
    found.refresh()
    assert (found.ca_pem, found.generation) == (whole, 1)


async def test_a_client_certificate_waits_for_its_key(tmp_path: Path, clock: Clock) -> None:
    authority = trustme.CA()
    write_identity(tmp_path, authority)
    found = await by_kubeconfig(tmp_path)
    old = found.client_certificate
    leaf = authority.issue_cert("client@example.com")
    renew(tmp_path / "client.pem", leaf.cert_chain_pems[0].bytes())
    clock.now += LOOK_SECONDS
    found.refresh()
    assert found.client_certificate == old
    renew(tmp_path / "client.key", leaf.private_key_pem.bytes())
    clock.now += LOOK_SECONDS
    found.refresh()
    assert found.client_certificate == (
        leaf.cert_chain_pems[0].bytes(),
        leaf.private_key_pem.bytes(),
    )
    (tmp_path / "client.key").unlink()
    clock.now += LOOK_SECONDS
    found.refresh()
    assert found.generation == 1


async def test_files_are_looked_at_seldom(tmp_path: Path, clock: Clock) -> None:
    write_identity(tmp_path, trustme.CA())
    found = await by_kubeconfig(tmp_path)
    clock.now += LOOK_SECONDS
    found.refresh()
    write_identity(tmp_path, trustme.CA())
    clock.now += LOOK_SECONDS / 2
    found.refresh()
    assert found.generation == 0
    clock.now += LOOK_SECONDS / 2
    found.refresh()
    assert found.generation == 1


async def test_requests_move_to_a_connection_of_the_new_certificate() -> None:
    """Those that are under way end in peace on the old one."""
    side = AgentSide().open()
    await side.ask(3)
    first = side.dialled[0]
    first.greet()
    side.credentials.generation += 1
    side.apiserver.second(1.0)
    assert side.credentials.refreshed == 1
    assert not first.transport.closed
    await side.ask(5)
    assert len(side.dialled) == 2
    side.dialled[1].greet()
    assert len(side.dialled[1].connection.streams) == 1
    side.apiserver.second(1.0)
    assert not side.dialled[1].connection.draining


async def test_skipped_verification_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_identity(tmp_path, trustme.CA())
    found = await by_kubeconfig(tmp_path, **{"insecure-skip-tls-verify": True})
    context = found.tls_context(http2=True)
    assert context.verify_mode is ssl.CERT_NONE
    assert "apiserver.unverified" in [record.message for record in caplog.records]
    caplog.clear()
    await by_kubeconfig(tmp_path)
    assert not caplog.records
