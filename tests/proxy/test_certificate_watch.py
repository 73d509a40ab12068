"""The operator's certificate is renewed while central runs."""

import asyncio
import logging
import os
import ssl
from pathlib import Path

import pytest
import trustme

from mk8s_agent.wire import pki, tls
from mk8s_proxy.identity.server_certificate import read_operator_certificate
from mk8s_proxy.process import authority_feed
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.certificate_watch import CertificateWatch
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.settings.model import Settings, TlsSettings


class Shown:
    """What clients would meet."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.settings = Settings(
            data_dir=folder,
            public_url="https://mk8s.example.com",
            listen="127.0.0.1:0",
            admin_listen="",
            tls=TlsSettings(self.chain, self.key),
        )
        self.content = b""
        self.installed = 0

    def write(self, *names: str) -> bytes:
        leaf = trustme.CA().issue_cert("mk8s.example.com")
        if "chain" in names:
            self.chain.write_bytes(leaf.cert_chain_pems[0].bytes())
        if "key" in names:
            pki.write_private(self.key, leaf.private_key_pem.bytes())
        return leaf.cert_chain_pems[0].bytes()

    async def install(self) -> None:
        chain, key = read_operator_certificate(self.settings)
        tls.server_context(chain, key)
        self.content = chain
        self.installed += 1

    def watch(self) -> CertificateWatch:
        return CertificateWatch((self.chain, self.key), self.install)


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    shown = Shown(tmp_path)
    shown.write("chain", "key")
    return shown


async def test_a_renewed_certificate_is_shown_without_a_restart(shown: Shown) -> None:
    watch = shown.watch()
    await watch.look()
    assert shown.installed == 0
    written = shown.write("chain", "key")
    await watch.look()
    assert shown.content == written
    await watch.look()
    assert shown.installed == 1


@pytest.mark.parametrize("half", ["chain", "key", "torn", "gone"])
async def test_half_of_a_renewal_keeps_the_old_certificate(
    shown: Shown, half: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = shown.watch()
    if half == "torn":
        os.truncate(shown.chain, 100)
    elif half == "gone":
        shown.key.unlink()
    else:
        shown.write(half)
    for _ in range(3):
        await watch.look()
    assert shown.installed == 0
    said = [it for it in caplog.records if it.levelno == logging.WARNING]
    assert [it.message for it in said] == ["certificate.not_usable"]
    written = shown.write("chain", "key")
    await watch.look()
    assert shown.content == written


async def seen_by_a_client(port: int) -> bytes:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(shown).encode()


async def test_a_running_central_shows_the_new_one(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority_feed, "LOOK_SECONDS", 0.05)
    choice = AdminChoice("a@example.com", "a long password", lambda _: "")
    await install(shown.settings, choice, None, print)
    central = Central(shown.settings)
    await central.start()
    first = await seen_by_a_client(central.port)
    written = shown.write("chain", "key")
    assert first != written
    while await seen_by_a_client(central.port) == first:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.05)
    assert await seen_by_a_client(central.port) == written
    await central.stop(0)
