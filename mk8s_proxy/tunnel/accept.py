"""An agent's connection becomes a tunnel. Called by what `process.app` gives the listener."""

import logging

from cryptography import x509

from mk8s_agent.wire import pki
from mk8s_agent.wire.limits import BufferBudget
from mk8s_agent.wire.ticks import Ticks
from mk8s_agent.wire.transport import TlsTransport
from mk8s_proxy.identity.ca import issuer_key_id
from mk8s_proxy.tunnel.control import TunnelControl, TunnelServices
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession

log = logging.getLogger(__name__)


def accept_tunnel(
    transport: TlsTransport,
    ticks: Ticks,
    buffers: BufferBudget,
    services: TunnelServices,
    events: TunnelEvents,
) -> TunnelSession | None:
    """The tunnel on a connection whose certificate TLS has verified.

    Whose it is, that certificate says and nothing else; None where it names no cluster.
    """
    der = transport.peer_certificate()
    try:
        cluster_id = pki.cluster_id_from_certificate(der)
    except pki.PkiError as error:
        log.warning("tunnel.certificate_refused", extra={"reason": str(error)})
        return None
    certificate = x509.load_der_x509_certificate(der)
    session = TunnelSession(transport, ticks, buffers, cluster_id=cluster_id, events=events)
    session.issuer = issuer_key_id(certificate)  # of the two that TLS may have verified it by
    session.conversation = TunnelControl(
        session, services, f"{certificate.serial_number:x}", certificate.not_valid_after_utc
    )
    return session
