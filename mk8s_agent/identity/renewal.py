"""The identity in use, and how it is replaced before it ends; no I/O.

One `IdentityKeeper` is shared by all tunnels of an agent: each new tunnel asks it for the identity
to show, and whichever control session notices first that renewal is due asks central for it. The
key of the next certificate is made for it and is known to nobody else.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Final

from mk8s_agent.identity.store import AgentIdentity, IdentityError, make_identity
from mk8s_agent.wire import pki
from mk8s_agent.wire.control import Renew

RENEW_AT: Final = 2 / 3
"""The part of a certificate's life after which it is renewed; the rest is for trying."""

_ANSWER_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


class IdentityKeeper:
    """Holds the identity of the agent.

    Args:
        identity: the one to begin with.
        changed: called with each new one, after it is in use; it is to be stored.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        identity: AgentIdentity,
        changed: Callable[[AgentIdentity], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.current = identity
        self._changed = changed
        self._clock = clock
        self._pending_key_pem = b""
        self._asker: object = None
        self._asked_at = 0.0
        self._not_before = 0.0

    def renewal_due(self) -> bool:
        """Tell whether central should be asked now, by anyone."""
        now = self._clock()
        life = self.current.not_after - self.current.not_before
        if now < self.current.not_before + life * RENEW_AT or now < self._not_before:
            return False
        return self._asker is None or now - self._asked_at > _ANSWER_SECONDS

    def ask(self, asker: object) -> Renew:
        """Make a fresh key and what central is to sign.

        Args:
            asker: whoever will call `complete` or `give_up`; an earlier one is forgotten.
        """
        key = pki.new_key()
        self._pending_key_pem = pki.key_to_pem(key)
        self._asker = asker
        self._asked_at = self._clock()
        return Renew(pki.csr(key, self.current.cluster_name).decode())

    def complete(self, asker: object, certificate_pem: bytes) -> bool:
        """Take up the certificate that central issued.

        Returns:
            Whether it is in use now. One that does not fit is logged, and asked for again later.
        """
        if asker is not self._asker:
            log.warning("identity.unexpected_certificate")
            return False
        try:
            identity = make_identity(
                cluster_name=self.current.cluster_name,
                private_key_pem=self._pending_key_pem,
                certificate_pem=certificate_pem,
                authority_pem=self.current.authority_pem,
            )
            self._check(identity)
        except IdentityError as error:
            self.give_up(asker, str(error))
            return False
        self._forget()
        self.current = identity  # one assignment: nobody sees a key without its certificate
        self._changed(identity)
        log.info("identity.renewed", extra={"not_after": int(identity.not_after)})
        return True

    def give_up(self, asker: object, reason: str) -> None:
        """Be told that ``asker`` will get no answer; anyone may ask again after a pause."""
        if asker is not self._asker:
            return
        self._forget()
        pause = random.uniform(0.5, 1.5) * _RETRY_SECONDS  # noqa: S311  jitter, no secret
        self._not_before = self._clock() + pause
        left = self.current.not_after - self._clock()
        log.warning("identity.not_renewed", extra={"reason": reason, "seconds_left": int(left)})

    def _forget(self) -> None:
        self._asker = None
        self._pending_key_pem = b""

    def _check(self, identity: AgentIdentity) -> None:
        if identity.cluster_id != self.current.cluster_id:
            raise IdentityError("central issued the certificate of another cluster")
        if identity.not_after <= self._clock():
            raise IdentityError("central issued a certificate that has ended; check both clocks")
