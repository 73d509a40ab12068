"""The certificates that the listener shows; the operator's, soon after its files have changed.

Made by `app`. Whoever renews it writes two files, one after the
other and not always at once: what does not fit yet is tried again, and the old one stays.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from mk8s_agent.wire import tls
from mk8s_agent.wire.bulkhead import say
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.authorities import Authorities
from mk8s_proxy.identity.ca import CaError
from mk8s_proxy.identity.server_certificate import ensure_own_certificate, ensure_server_certificate
from mk8s_proxy.listener.server import Contexts
from mk8s_proxy.settings.model import Settings

LOOK_SECONDS: Final = 5.0
"""How often the files are looked at."""

log = logging.getLogger(__name__)

_Seen = tuple[tuple[int, int, int], ...]


async def make_contexts(
    database: Database, settings: Settings, authorities: Authorities
) -> Contexts:
    """The TLS contexts of this moment, after renewing what is due.

    Raises:
        CaError: the operator's files cannot be used.
        OSError: ``data_dir`` cannot be written.
    """
    public = await ensure_server_certificate(database, settings)
    own = await ensure_own_certificate(database, settings)
    return Contexts(
        tls.server_context(*public),
        tls.tunnel_server_context(*own, authorities.agent_ca.certificate_pem),
        tls.server_context(*own),
    )


class CertificateWatch:
    """Notices that certificate or key have changed.

    Args:
        paths: of certificate and key; None where mk8s makes its own, which nobody else renews.
        install: reads them and shows them from then on.
    """

    def __init__(
        self, paths: tuple[Path | None, Path | None], install: Callable[[], Awaitable[None]]
    ) -> None:
        self._paths = [path for path in paths if path is not None]
        self._install = install
        self._shown = self._signature()
        self._refused: _Seen = ()

    async def look(self) -> None:
        """Install what has changed; what cannot be used is told once, and tried at each look."""
        seen = await asyncio.to_thread(self._signature)
        if seen == self._shown:
            return
        try:
            await self._install()
        except (CaError, OSError, ValueError) as error:  # of ssl, too
            if seen != self._refused:
                told = {"reason": say(error), "advice": "the certificate before it stays"}
                log.warning("certificate.not_usable", extra=told)
            self._refused = seen
            return
        self._shown, self._refused = seen, ()
        log.info("certificate.renewed", extra={"file": str(self._paths[0])})

    def _signature(self) -> _Seen:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_ino, status.st_size)
