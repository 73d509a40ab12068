"""The admission of agents: one token, one cluster, one time, one kind of key."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mk8s_agent.wire import pki
from mk8s_proxy.db import agents
from mk8s_proxy.db.agents import Standing
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.throttle import PER_JOIN_SOURCE
from tests.support.management_api import AUTHORITIES, NOW, Central, csr


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


async def join(central: Central, token: str, cluster: str = "dev-1", **more: Any) -> Any:
    body = {"token": token, "cluster": cluster, "csr": more.pop("csr", csr())}
    return await central.call("POST", "/join", body, **more)


def refusal(central: Central) -> str:
    """The reason in the audit row of the last join."""
    row = central.last_row()
    assert row["objectRef"]["resource"] == "agentcertificates"
    assert row["annotations"]["authorization.k8s.io/decision"] == "forbid"
    return str(row["annotations"]["mk8s.io/refusal"])


async def test_an_agent_is_admitted(central: Central) -> None:
    created = await central.add_cluster()
    answer = await join(central, created["join_token"])
    assert answer.status == 200
    assert answer.json["cluster_id"] == created["id"]
    certificate = answer.json["certificate"].encode()
    assert pki.cluster_id_from_certificate(certificate) == created["id"]
    assert AUTHORITIES.agent_ca.issued(certificate)
    assert answer.json["ca_certificate"].encode() == AUTHORITIES.server_ca.certificate_pem
    expires_at = datetime.datetime.fromisoformat(answer.json["expires_at"])
    assert expires_at.timestamp() == NOW + 86400
    row = central.last_row()
    assert row["user"]["username"] == "mk8s:agent"
    assert row["annotations"]["mk8s.io/cluster"] == "dev-1"
    assert row["annotations"]["authorization.k8s.io/decision"] == "allow"


async def test_the_certificate_is_recorded_before_it_is_handed_out(central: Central) -> None:
    created = await central.add_cluster()
    answer = await join(central, created["join_token"])
    serial = x509.load_pem_x509_certificate(answer.json["certificate"].encode()).serial_number
    [standing] = (await agents.standings(central.database, [f"{serial:x}"])).values()
    assert standing == Standing(created["id"], "dev-1", revoked=False)


async def test_join_token_replayed(central: Central) -> None:
    token = (await central.add_cluster())["join_token"]
    await join(central, token)
    answer = await join(central, token)
    assert (answer.status, refusal(central)) == (403, "JOIN_TOKEN_USED")
    assert answer.message == "the join token was used already; ask an admin for a new one"


async def test_two_agents_racing_with_one_join_token(central: Central) -> None:
    token = (await central.add_cluster())["join_token"]
    answers = await asyncio.gather(*(join(central, token) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 403, 403, 403, 403]


async def test_join_token_expired(central: Central) -> None:
    token = (await central.add_cluster())["join_token"]
    central.now += 900
    answer = await join(central, token)
    assert (answer.status, refusal(central)) == (403, "JOIN_TOKEN_EXPIRED")
    assert "ask an admin for a new one" in answer.message


async def test_join_token_of_a_foreign_cluster(central: Central) -> None:
    token = (await central.add_cluster("dev-1"))["join_token"]
    await central.add_cluster("prod")
    answer = await join(central, token, "prod")
    assert (answer.status, refusal(central)) == (403, "JOIN_TOKEN_FOREIGN")
    assert "made for another cluster" in answer.message
    assert "certificate" not in answer.json
    assert (await join(central, token, "dev-1")).status == 403, "it is used up"


@pytest.mark.parametrize("cluster", ["dev-1", "nope"])
async def test_join_token_never_issued(central: Central, cluster: str) -> None:
    """Known and unknown clusters give the same answer: strangers learn no names."""
    await central.add_cluster("dev-1")
    answer = await join(central, "mk8s_jt_" + "A" * 43, cluster)
    assert (answer.status, refusal(central)) == (403, "JOIN_TOKEN_UNKNOWN")
    assert answer.message == "the join token is not known here: ask an admin for a new one"


async def test_join_token_of_a_removed_cluster(central: Central) -> None:
    token = (await central.add_cluster())["join_token"]
    await central.call("DELETE", "/clusters/dev-1", token=await central.admin())
    assert (await join(central, token)).status == 403


def request_of(key: Any, algorithm: Any) -> str:
    name = x509.Name([])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def tampered() -> str:
    """A request whose signature is of another key."""
    good = x509.load_pem_x509_csr(csr().encode()).public_bytes(serialization.Encoding.DER)
    broken = bytearray(good)
    broken[-1] ^= 1
    request = x509.load_der_x509_csr(bytes(broken))
    return request.public_bytes(serialization.Encoding.PEM).decode()


BAD_REQUESTS = {
    "empty": "",
    "text": "not a request",
    "certificate": AUTHORITIES.server_ca.certificate_pem.decode(),
    "half": csr()[:200],
    "rsa": request_of(rsa.generate_private_key(65537, 2048), hashes.SHA256()),
    "p384": request_of(ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
    "ed25519": request_of(ed25519.Ed25519PrivateKey.generate(), None),
    "tampered": tampered(),
    "huge": "A" * 20000,
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
async def test_certificate_requests_that_cannot_be_signed(central: Central, kind: str) -> None:
    token = (await central.add_cluster())["join_token"]
    answer = await join(central, token, csr=BAD_REQUESTS[kind])
    assert (answer.status, answer.field) == (422, "csr")
    assert refusal(central) == "Invalid"
    assert (await join(central, token)).status == 200, "the token is not used up by it"


async def test_a_request_cannot_choose_who_it_is(central: Central) -> None:
    """Names and extensions of the request are ignored."""
    created, other = await central.add_cluster("dev-1"), await central.add_cluster("prod")
    uri = x509.UniformResourceIdentifier(pki.cluster_uri(other["id"]))
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "prod")]))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    forged = builder.sign(pki.new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    answer = await join(central, created["join_token"], csr=forged.decode())
    certificate = answer.json["certificate"].encode()
    assert pki.cluster_id_from_certificate(certificate) == created["id"]
    constraints = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(
        x509.BasicConstraints
    )
    assert not constraints.value.ca


async def test_guessing_join_tokens_is_slowed(central: Central) -> None:
    good = (await central.add_cluster())["join_token"]
    for _ in range(PER_JOIN_SOURCE.free):
        await join(central, "mk8s_jt_" + "A" * 43)
    answer = await join(central, good)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    assert (await join(central, good, source="198.51.100.1")).status == 200


async def test_successful_joins_are_not_slowed(central: Central) -> None:
    await central.add_cluster()
    for _ in range(PER_JOIN_SOURCE.free + 2):
        admin = await central.admin()
        fresh = await central.call("POST", "/clusters/dev-1/join-token", token=admin)
        assert (await join(central, fresh.json["join_token"])).status == 200


async def test_the_ca_is_what_the_pin_says(central: Central) -> None:
    answer = await central.call("GET", "/ca.pem")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/x-pem-file"
    assert pki.spki_pin(answer.raw) == AUTHORITIES.server_ca.pin
