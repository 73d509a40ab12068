"""What keeps a connection in good health: budgets against floods, signs of life, round trips.

Called by `connection` for each frame that costs work, and by its clock once a second.
"""

import struct
import time
from typing import Final

from mk8s_agent.wire.http2.frames import PING, ErrorCode, RemoteProtocolError, frame
from mk8s_agent.wire.limits import BUDGET_SECONDS, Limits

_KEPT_BUDGETS: Final = 16
"""A peer that was sent much owes many WINDOW_UPDATEs, but not for ever."""

_ROUND_TRIPS: Final = 8
"""The least of so many measured ones counts: a busy process makes each single one longer."""

_FIRST_PINGS: Final = 4
"""So many are measured at once in the beginning, where windows may grow."""


class FloodBudget:
    """What a peer may do that costs this end work and itself nothing, within `BUDGET_SECONDS`."""

    __slots__ = ("_limits", "_resets", "frames")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._resets = limits.resets
        self.frames = limits.control_frames
        """Control frames that the peer may still send; `outbound` adds some for what it sends."""

    def spend(self, frames: int = 1) -> None:
        """Counts a frame that costs us work and the peer nothing.

        Args:
            frames: the work, in that of ordinary ones.

        Raises:
            RemoteProtocolError: there were too many.
        """
        self.frames -= frames
        if self.frames < 0:
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many control frames")

    def spend_reset(self) -> None:
        """Counts a stream that was reset, by the peer or because of the peer.

        Raises:
            RemoteProtocolError: there were too many (CVE-2023-44487, CVE-2025-8671).
        """
        self._resets -= 1
        if self._resets < 0:
            raise RemoteProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset")

    def refill(self) -> None:
        """The next period begins. Frames that were earned are kept, up to a limit."""
        least = self._limits.control_frames
        self._resets = self._limits.resets
        self.frames = min(max(self.frames, least), least * _KEPT_BUDGETS)


class Health:
    """Whether the peer is there, and how far away."""

    __slots__ = (
        "_limits", "_ping_payload", "_ping_sent", "_round_trips", "_seconds", "heard",
        "silent_seconds",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self.heard = False
        """The peer sent something since the last second."""
        self.silent_seconds = 0.0
        """How long it has sent nothing."""
        self._limits = limits
        self._seconds = 0.0
        self._ping_sent = 0.0
        self._ping_payload = b""
        self._round_trips: tuple[float, ...] = ()

    def ping(self) -> bytes:
        """The frame that asks the peer for a sign of life, and measures how far away it is."""
        self._ping_sent = time.monotonic()
        self._ping_payload = struct.pack(">d", self._ping_sent)
        return frame(PING, 0, 0, self._ping_payload)

    def on_pong(self, payload: bytes) -> float:
        """The round trip in seconds that counts now; 0 for an answer to a PING that was never sent,
        which says nothing."""
        if payload != self._ping_payload:
            return 0.0
        self._ping_payload = b""
        measured = time.monotonic() - self._ping_sent
        self._round_trips = (*self._round_trips[1 - _ROUND_TRIPS :], measured)
        return min(self._round_trips)

    @property
    def near_start(self) -> bool:
        """So few round trips are known that the next one should be measured at once."""
        return self._limits.widest_window > 0 and len(self._round_trips) < _FIRST_PINGS

    def second(self, elapsed: float) -> float:
        """Counts silence. Returns the length of a budget period that is over, else 0."""
        self.silent_seconds = 0.0 if self.heard else self.silent_seconds + elapsed
        self.heard = False
        self._seconds += elapsed
        if self._seconds < BUDGET_SECONDS:
            return 0.0
        period, self._seconds = self._seconds, 0.0
        return period
