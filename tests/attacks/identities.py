"""Certificates of agents for the attackers, good and bad, as files in a stage's folder."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from mk8s_agent.wire import pki
from mk8s_proxy.identity.ca import CertificateAuthority

if TYPE_CHECKING:
    from tests.attacks.stage import Stage


def write(stage: "Stage") -> None:
    """Registers the cluster "evil" and writes its certificate, and five that are no good."""
    cluster = stage.add_clusters(["evil"])["evil"]
    authorities = stage.authorities()
    key = pki.new_key()
    request = pki.csr(key, "attack")
    ours = authorities.agent_ca
    day = timedelta(days=1)
    good = ours.sign_agent(request, cluster)
    stage.record_certificates({cluster: good})
    other = CertificateAuthority.create("agent")
    made = {
        "evil": good.certificate_pem,
        "other-ca": other.sign_agent(request, cluster).certificate_pem,
        "unknown-cluster": ours.sign_agent(request, str(uuid4())).certificate_pem,
        "unrecorded": ours.sign_agent(request, cluster).certificate_pem,
        "server": authorities.server_ca.issue_server([cluster], key),
        "expired": ours.sign_agent(
            request, cluster, now=datetime.now(UTC) - 3 * day
        ).certificate_pem,
    }
    for name, pem in made.items():
        (stage.folder / f"{name}.crt").write_bytes(pem)
        _key(stage, name, pki.key_to_pem(key))


def _key(stage: "Stage", name: str, pem: bytes) -> None:
    file = stage.folder / f"{name}.key"
    file.touch(mode=0o600)
    file.write_bytes(pem)
