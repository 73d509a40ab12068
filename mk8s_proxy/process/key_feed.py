"""The signing keys in force: read with the policy, turned over as time goes on.

`app` hands it the rows of each new policy, so that a key that is new or retired is known to every
replica within the policy poll, or the lease ends; and calls `turn` every few seconds.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.keys import KeyRecord, retire_key
from mk8s_proxy.identity.key_rotation import Rotation, key_statuses, usable_keys
from mk8s_proxy.identity.signing_keys import SigningKeys

logger = logging.getLogger(__name__)


class KeyFeed:
    """Keeps `SigningKeys` as the database and the clock say.

    Args:
        changed: called after each time that the keys were taken, with the time (epoch seconds).
        retired: called with the id of a key that was retired here, and not by another replica.
    """

    def __init__(
        self,
        database: Database,
        keys: SigningKeys,
        rotation: Rotation,
        changed: Callable[[float], None],
        *,
        retired: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._keys = keys
        self._rotation = rotation
        self._changed = changed
        self._retired = retired
        self._clock = clock
        self._records: tuple[KeyRecord, ...] = ()

    def take(self, records: tuple[KeyRecord, ...]) -> None:
        """Go by these records from now on.

        Raises:
            ValueError, TypeError: a stored key cannot be read; the former keys stay.
        """
        now = self._clock()
        moment = datetime.fromtimestamp(now, UTC)
        self._keys.replace(usable_keys(records, now=moment, rotation=self._rotation))
        self._records = records
        self._changed(now)

    async def turn(self) -> None:
        """Let time do its part: another key signs, one that has ended is gone, and is retired.

        Raises:
            StoreError: the database does not answer. What has ended is gone here all the same.
        """
        self.take(self._records)
        moment = datetime.fromtimestamp(self._clock(), UTC)
        for status in key_statuses(self._records, now=moment, rotation=self._rotation):
            if status.phase == "ended":
                kid = status.record.kid
                record = await retire_key(self._database, kid, now=moment)
                if record.retired_at == moment:  # else it had been already
                    logger.info("signing_key.retired", extra={"kid": kid})
                    self._retired(kid)
