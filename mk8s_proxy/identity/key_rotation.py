"""When a signing key signs, and until when it verifies; pure. For `process.key_feed` and the API.

A key is published first. It signs once every replica has had the time to read it: one that could
not within the policy's lease decides nothing any more. From then on its predecessor only verifies,
until no token of it can be good; then it is retired. Everything follows from the times at which
keys were stored, so that replicas need not agree on anything else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from mk8s_proxy.db.keys import KeyRecord
from mk8s_proxy.identity.access_token import LEEWAY
from mk8s_proxy.identity.signing_keys import SigningKey
from mk8s_proxy.settings.model import Settings

PAGE_TOKEN_SECONDS: Final = 900.0
"""Page tokens are sealed with these keys, too, and those of Kubernetes are good for five to fifteen
minutes (`ListOptions.continue`, k8s.io/apimachinery pkg/apis/meta/v1/types.go)."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """The seconds between the phases of a key."""

    settle: float
    """From its publication until it signs."""
    verify: float
    """From its last signature until it is retired."""


def rotation_of(settings: Settings) -> Rotation:
    """The times that these settings ask for."""
    policy = settings.policy
    return Rotation(
        # Polls vary by a tenth, and clocks by the leeway.
        settle=2 * policy.poll_seconds + policy.lease_seconds + LEEWAY,
        verify=max(settings.tokens.access_seconds, PAGE_TOKEN_SECONDS) + LEEWAY,
    )


Phase = Literal["pending", "signing", "verifying", "ended", "retired"]
"""What a key does. One that has ended is to be retired: no token of it can be good."""


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """A key at one moment."""

    record: KeyRecord
    phase: Phase
    signs_from: datetime
    """Since when it signs or will, where no newer one does; of a retired one, its creation."""
    verifies_until: datetime | None = None
    """While another one signs or will sign: when this one ends by itself."""

    @property
    def usable(self) -> bool:
        """Whether tokens of it are accepted."""
        return self.phase in {"pending", "signing", "verifying"}


def key_statuses(
    records: Iterable[KeyRecord], *, now: datetime, rotation: Rotation
) -> list[KeyStatus]:
    """Tell what each of the stored keys does at `now`, oldest first."""
    oldest_first = sorted(records, key=lambda record: (record.created_at, record.kid))
    live = [record for record in oldest_first if record.retired_at is None]
    # The oldest needs not wait: without it nothing could be signed.
    waits = [timedelta(seconds=rotation.settle if place else 0) for place in range(len(live))]
    signs_from = [record.created_at + wait for record, wait in zip(live, waits, strict=True)]
    signing = max((place for place, since in enumerate(signs_from) if since <= now), default=0)
    known: dict[str, KeyStatus] = {}
    for place, record in enumerate(live):
        successor = signs_from[place + 1 : place + 2]
        until = successor[0] + timedelta(seconds=rotation.verify) if successor else None
        phase = _phase(place - signing, ended=until is not None and until <= now)
        known[record.kid] = KeyStatus(record, phase, signs_from[place], until)
    return [
        known.get(record.kid) or KeyStatus(record, "retired", record.created_at)
        for record in oldest_first
    ]


def _phase(after_the_signing_one: int, *, ended: bool) -> Phase:
    if after_the_signing_one > 0:
        return "pending"
    if after_the_signing_one == 0:
        return "signing"
    return "ended" if ended else "verifying"


def usable_keys(
    records: Iterable[KeyRecord], *, now: datetime, rotation: Rotation
) -> list[SigningKey]:
    """Read the keys whose tokens are accepted, oldest first, as `SigningKeys.replace` wants.

    Raises:
        ValueError, TypeError: a stored key cannot be read.
    """
    return [
        SigningKey.from_pem(
            status.record.kid,
            status.record.private_pem,
            signs_from=status.signs_from.timestamp(),
        )
        for status in key_statuses(records, now=now, rotation=rotation)
        if status.usable
    ]
