"""The agent's identity: its parts fit, its file is private, its time and cluster are right."""

import dataclasses
import json
import time
from pathlib import Path

import pytest

from mk8s_agent.identity import store as identity_module
from mk8s_agent.identity.store import (
    AgentIdentity,
    FileStore,
    IdentityError,
    check_clock,
    check_cluster,
    check_expiry,
    decode_identity,
    encode_identity,
    make_identity,
)
from mk8s_agent.wire import pki
from tests.agent.pki_for_tests import Issuer

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="module")
def identity(issuer: Issuer) -> AgentIdentity:
    return issuer.identity("c-1", NOW, NOW + 86_400)


async def test_what_is_saved_is_loaded(tmp_path: Path, identity: AgentIdentity) -> None:
    store = FileStore(tmp_path / "new" / "folder")
    assert await store.load() is None
    await store.check_writable()
    await store.save(identity)
    assert await store.load() == identity
    path = tmp_path / "new" / "folder" / "identity.json"
    assert store.location == str(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [it.name for it in path.parent.iterdir()] == ["identity.json"]


def test_nothing_secret_is_shown(identity: AgentIdentity) -> None:
    assert "PRIVATE" not in repr(identity)


async def test_a_key_that_others_may_read_is_refused(
    tmp_path: Path, identity: AgentIdentity
) -> None:
    store = FileStore(tmp_path)
    await store.save(identity)
    (tmp_path / "identity.json").chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        await store.load()


async def test_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FileStore(tmp_path / "file" / "below")
    with pytest.raises(IdentityError, match=r"cannot write to .*; give another --data-dir"):
        await store.check_writable()


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"cluster": 1, "private_key": 2, "certificate": 3, "authority": 4}'],
)
async def test_a_damaged_file(tmp_path: Path, document: bytes) -> None:
    (tmp_path / "identity.json").write_bytes(document)
    (tmp_path / "identity.json").chmod(0o600)
    with pytest.raises(IdentityError, match="is damaged; remove it and start with a new join"):
        await FileStore(tmp_path).load()


def test_a_certificate_of_another_key(issuer: Issuer, identity: AgentIdentity) -> None:
    other = issuer.identity("c-1", NOW, NOW + 1)
    document = json.loads(encode_identity(identity))
    document["private_key"] = other.private_key_pem.decode()
    with pytest.raises(IdentityError, match=r"is damaged \(the certificate belongs to another key"):
        decode_identity(json.dumps(document).encode(), "x")


def test_a_certificate_without_a_cluster(issuer: Issuer, identity: AgentIdentity) -> None:
    with pytest.raises(IdentityError, match="cannot be read"):
        make_identity(
            cluster_name="prod",
            private_key_pem=identity.private_key_pem,
            certificate_pem=issuer.pem,
            authority_pem=issuer.pem,
        )


def test_clock(identity: AgentIdentity) -> None:
    check_clock(identity, NOW)
    check_clock(identity, NOW - identity_module.CLOCK_LEEWAY_SECONDS)
    with pytest.raises(IdentityError, match="not valid for another 600 seconds: check the clock"):
        check_clock(identity, NOW - 600)


def test_expiry(identity: AgentIdentity) -> None:
    check_expiry(identity, NOW + 86_399)
    with pytest.raises(IdentityError, match="mk8s admin clusters join-token prod"):
        check_expiry(identity, NOW + 86_400)


def test_identity_of_another_cluster(identity: AgentIdentity) -> None:
    check_cluster(identity, "prod", "here")
    with pytest.raises(IdentityError) as caught:
        check_cluster(identity, "staging", "here")
    assert str(caught.value) == (
        "here holds the identity of cluster 'prod', not of 'staging'; "
        "give another --data-dir, or remove here to join anew"
    )


def test_values_are_fixed(identity: AgentIdentity) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.cluster_id = "c-2"  # type: ignore[misc]


def test_times_are_those_of_the_certificate(issuer: Issuer) -> None:
    now = float(int(time.time()))
    made = issuer.identity("c-1", now, now + 60)
    assert (made.not_before, made.not_after) == (now, now + 60)
    assert pki.cluster_id_from_certificate(made.certificate_pem) == made.cluster_id == "c-1"
