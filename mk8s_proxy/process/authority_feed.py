"""The authorities in force, and the certificates that central shows: both follow the database.

Made by `app`, which hands it the rows of each new policy, so that a rotation of the authorities is
known to every replica within the policy poll, or the lease ends. What follows from it by itself
(new certificates, new contexts) is done within a second, and tried again while it fails.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from mk8s_agent.wire.background import Background
from mk8s_proxy.db.authorities import AuthorityRecord
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.authorities import Authorities, AuthorityKeeper, load_authorities
from mk8s_proxy.identity.key_rotation import rotation_of
from mk8s_proxy.listener.server import Contexts, Listener
from mk8s_proxy.process.certificate_watch import LOOK_SECONDS, CertificateWatch, make_contexts
from mk8s_proxy.settings.model import Settings
from mk8s_proxy.tunnel.registry import TunnelRegistry

log = logging.getLogger(__name__)

_TURN_SECONDS: Final = 1.0
_REFRESH_SECONDS: Final = 3600.0
_RENEWAL_SECONDS: Final = 60.0


class AuthorityFeed:
    """Keeps authorities and contexts as the database, the files and the clock say.

    Args:
        database: started before `load`.
        settings: where the operator's certificate is, if there is one.
        tunnels: told whose agents are let in.
    """

    def __init__(self, database: Database, settings: Settings, tunnels: TunnelRegistry) -> None:
        self._database = database
        self._settings = settings
        self._tunnels = tunnels
        self._keeper: AuthorityKeeper | None = None
        self._shown: Authorities | None = None
        files = settings.tls.certificate, settings.tls.key
        self._watch = CertificateWatch(files, self._show)

    async def load(self) -> AuthorityKeeper:
        """The authorities of this moment, and of all that follow.

        Raises:
            CaError, StoreError: there are none yet, or they cannot be read.
        """
        current = await load_authorities(self._database)
        self._keeper = AuthorityKeeper(current, rotation_of(self._settings).settle)
        return self._keeper

    async def contexts(self) -> Contexts:
        """The TLS contexts of this moment, after renewing what is due.

        Raises:
            CaError, OSError: as `make_contexts`.
        """
        assert self._keeper is not None
        current = self._keeper.current
        made = await make_contexts(self._database, self._settings, current)
        self._shown = current
        return made

    def take(self, records: Mapping[str, AuthorityRecord]) -> None:
        """Go by these records from now on.

        Raises:
            CaError: they cannot be read; the former authorities stay.
        """
        assert self._keeper is not None
        self._keeper.take(records)
        self._tunnels.trust(self._keeper.current.agent_key_ids)

    def follow(self, listener: Listener, background: Background) -> None:
        """Let the listener show what changes."""
        self._listener = listener
        background.every("authorities", _TURN_SECONDS, self._turn)
        background.every("renewals", _REFRESH_SECONDS, self._renew)
        background.every("certificate files", LOOK_SECONDS, self._watch.look)

    async def _turn(self) -> None:
        assert self._keeper is not None
        if self._shown is not self._keeper.current:
            await self._renew()
            log.info("authorities.changed", extra={"pin": self._keeper.current.server_ca.pin})

    async def _renew(self) -> None:
        """Server certificates, as other replicas or time changed them."""
        async with asyncio.timeout(_RENEWAL_SECONDS):
            await self._show()

    async def _show(self) -> None:
        self._listener.contexts = await self.contexts()
