"""The identity in use, and how it is replaced before it ends; no I/O.

One `IdentityKeeper` is shared by all tunnels of an agent: each new tunnel asks it for the identity
to show, and whichever control session notices first that renewal is due asks central for it. The
key of the next certificate is made for it and is known to nobody else.

Whom the agent verifies central by may change, too: central tells it on each tunnel, and while one
authority follows another also to renew early (`IdentityKeeper.trust`).

That key is stored before central sees it, and stays the same until there is an answer: central
renews a certificate into one other only, and takes whoever asks with another key for a thief.
"""

import dataclasses
import logging
import math
import random
import time
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm

from mk8s_agent.identity.store import AgentIdentity, IdentityError, make_identity
from mk8s_agent.wire import pki
from mk8s_agent.wire.control import Renew

RENEW_AT: Final = 2 / 3
"""The part of a certificate's life after which it is renewed; the rest is for trying."""

_ANSWER_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 60.0
_STORE_SECONDS: Final = 60.0
"""So long the renewal waits for its key to be stored; without a store it goes on at some risk."""

log = logging.getLogger(__name__)


class IdentityKeeper:
    """Holds the identity of the agent.

    Args:
        identity: the one to begin with.
        changed: called with each new one, after it is in use; it is to be stored.
        prepared: called with the current one when it has got the key of the next; the same, and
            `stored` is to be told.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        identity: AgentIdentity,
        changed: Callable[[AgentIdentity], object],
        clock: Callable[[], float] = time.time,
        prepared: Callable[[AgentIdentity], object] = lambda _identity: None,
    ) -> None:
        self.current = identity
        self._changed = changed
        self._prepared = prepared
        self._clock = clock
        self._stored = _worth_storing(identity)
        self._prepared_at = 0.0
        self._moves_at = math.inf
        """When the certificate is renewed although much of its life is left."""
        self._asker: object = None
        self._asked_at = 0.0
        self._not_before = 0.0

    def renewal_due(self) -> bool:
        """Tell whether central should be asked now, by anyone."""
        now = self._clock()
        life = self.current.not_after - self.current.not_before
        due = min(self.current.not_before + life * RENEW_AT, self._moves_at)
        if now < due or now < self._not_before:
            return False
        if not self.current.next_key_pem:
            self._prepare()
        is_stored = _worth_storing(self.current) == self._stored
        if not is_stored and now - self._prepared_at < _STORE_SECONDS:
            return False
        return self._asker is None or now - self._asked_at > _ANSWER_SECONDS

    def stored(self, identity: AgentIdentity) -> None:
        """Be told that an identity, and the next key in it, would survive a crash."""
        self._stored = _worth_storing(identity)

    def trust(self, authorities_pem: bytes, renew_seconds: float) -> None:
        """Verify central by these authorities from now on; tunnels that are open stay open.

        Args:
            authorities_pem: one certificate or several; what is none of that changes nothing.
            renew_seconds: above 0, the certificate in use is of an authority that is on its way
                out, and is renewed at a random moment within so many seconds.
        """
        try:
            pins = pki.spki_pins(authorities_pem)
            known = pki.spki_pins(self.current.authority_pem)
        except (pki.PkiError, UnsupportedAlgorithm) as error:
            log.warning("identity.trust_refused", extra={"reason": str(error)})
            return
        if set(pins) != set(known):
            self.current = dataclasses.replace(self.current, authority_pem=authorities_pem)
            self._prepared_at = self._clock()
            self._prepared(self.current)
            log.info("identity.trust_changed", extra={"pins": ", ".join(pins)})
        if renew_seconds and self._moves_at == math.inf:
            # Spread, so that central does not sign for a thousand agents at once.
            pause = random.uniform(0, renew_seconds)  # noqa: S311  jitter, no secret
            self._moves_at = self._clock() + pause

    def adopt(self, kept: AgentIdentity) -> None:
        """Take over what another process of this agent has stored, as during a rolling update.

        A newer identity replaces ours; the key that it has prepared, for the same certificate, is
        the one to ask with.
        """
        current = self.current
        if kept.cluster_id != current.cluster_id:
            return
        if kept.not_before > current.not_before:
            self._asker, self._moves_at = None, math.inf
            self.current = kept
            self._changed(kept)
        elif kept.certificate_pem == current.certificate_pem and self._asker is None:
            next_key = kept.next_key_pem or current.next_key_pem
            self.current = dataclasses.replace(current, next_key_pem=next_key)

    def _prepare(self) -> None:
        next_key_pem = pki.key_to_pem(pki.new_key())
        self.current = dataclasses.replace(self.current, next_key_pem=next_key_pem)
        self._prepared_at = self._clock()
        self._prepared(self.current)

    def ask(self, asker: object) -> Renew:
        """Make what central is to sign: the key that was prepared for it.

        Args:
            asker: whoever will call `complete` or `give_up`; an earlier one is forgotten.
        """
        if not self.current.next_key_pem:
            self._prepare()
        key = pki.key_from_pem(self.current.next_key_pem)
        self._asker = asker
        self._asked_at = self._clock()
        trusts = pki.spki_pins(self.current.authority_pem)
        return Renew(pki.csr(key, self.current.cluster_name).decode(), trusts)

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
                private_key_pem=self.current.next_key_pem,
                certificate_pem=certificate_pem,
                authority_pem=self.current.authority_pem,
            )
            self._check(identity)
        except IdentityError as error:
            self.give_up(asker, str(error))
            return False
        self._asker, self._moves_at = None, math.inf
        self.current = identity  # one assignment: nobody sees a key without its certificate
        self._changed(identity)
        log.info("identity.renewed", extra={"not_after": int(identity.not_after)})
        return True

    def give_up(self, asker: object, reason: str) -> None:
        """Be told that ``asker`` will get no answer; anyone may ask again after a pause."""
        if asker is not self._asker:
            return
        self._asker = None
        pause = random.uniform(0.5, 1.5) * _RETRY_SECONDS  # noqa: S311  jitter, no secret
        self._not_before = self._clock() + pause
        left = self.current.not_after - self._clock()
        log.warning("identity.not_renewed", extra={"reason": reason, "seconds_left": int(left)})

    def _check(self, identity: AgentIdentity) -> None:
        if identity.cluster_id != self.current.cluster_id:
            raise IdentityError("central issued the certificate of another cluster")
        if identity.not_after <= self._clock():
            raise IdentityError("central issued a certificate that has ended; check both clocks")


def _worth_storing(identity: AgentIdentity) -> tuple[bytes, bytes]:
    """What must not be forgotten before a new certificate is asked for."""
    return identity.next_key_pem, identity.authority_pem
