"""The policy feed: keeps the compiled policy in memory as fresh as the database.

``app`` starts it, gives it a task (:meth:`PolicyFeed.run`) and hands it to the handler chain and
the management API. The handler chain asks :meth:`PolicyFeed.fresh` and :attr:`PolicyFeed.current`
for each request, without waiting. A database that does not answer, or a policy that does not
compile, leaves the last good snapshot in force until its lease ends; from then on every request
gets 503.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from mk8s_agent.wire.bulkhead import Bulkhead
from mk8s_proxy.authz.cluster_facts import ClusterFacts
from mk8s_proxy.authz.policy import PolicyError, PolicySource, parse_role
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.db.announcements import Announcements
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.locks import CLUSTER, ROLE
from mk8s_proxy.db.policy import PolicyRows, load_policy, policy_version
from mk8s_proxy.identity.locks import words_of
from mk8s_proxy.settings.login import LoginSettings
from mk8s_proxy.settings.model import PolicySettings

LARGE_POLICY_RULES = 200
"""Compiling more rules than this takes over a millisecond, so it happens in a thread."""
JITTER = 0.1
"""Share of the interval by which polls vary, so that replicas do not ask all at once."""

_LISTENERS: Final = Bulkhead("policy.listeners")

logger = logging.getLogger(__name__)


class PolicyNotLoaded(Exception):
    """The policy was asked for before :meth:`PolicyFeed.start`."""


class PolicyNotTaken(Exception):
    """A listener failed: what it keeps does not follow the policy; it is told again."""


class PolicyFeed:
    """The policy in force in this process."""

    def __init__(
        self,
        database: Database,
        settings: PolicySettings,
        login: LoginSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._told_groups = login.impersonate_groups if login else ()
        self._database = database
        self._settings = settings
        self._clock = clock
        self._today = today
        self.facts = ClusterFacts()
        """What agents tell of their clusters; every snapshot asks it."""
        self._snapshot: PolicySnapshot | None = None
        self._rows: PolicyRows | None = None
        self._checked = float("-inf")
        self._failing = False
        self._lock = asyncio.Lock()
        self._hurry = asyncio.Event()
        self._listeners: list[Callable[[PolicyFeed], None]] = []
        self._untold: list[Callable[[PolicyFeed], None]] = []
        """Those that have not taken the snapshot in force."""
        self._looks: list[Callable[[], Awaitable[None]]] = []

    def __repr__(self) -> str:
        version = self._rows.version if self._rows else None
        return f"<PolicyFeed version={version} failing={self._failing}>"

    @property
    def current(self) -> PolicySnapshot:
        """The snapshot in force. Raises :class:`PolicyNotLoaded` before the first."""
        if self._snapshot is None:
            raise PolicyNotLoaded("PolicyFeed.start() was not awaited")
        return self._snapshot

    @property
    def rows(self) -> PolicyRows:
        """What the snapshot was made of: token epochs, cluster ids. Raises as :attr:`current`."""
        if self._rows is None:
            raise PolicyNotLoaded("PolicyFeed.start() was not awaited")
        return self._rows

    def fresh(self, now: float) -> bool:
        """Whether the snapshot may still decide: it was found current within its lease.

        Args:
            now: seconds of ``time.monotonic()`` (an event loop's ``time()`` is the same clock).
        """
        return now - self._checked < self._settings.lease_seconds

    def age(self, now: float) -> float:
        """Seconds since the snapshot was found current; `now` as for `fresh`."""
        return now - self._checked

    def on_change(self, listener: Callable[["PolicyFeed"], None]) -> None:
        """Call ``listener(feed)`` on the event loop after each new snapshot, and now if there is
        one, so that nobody has to care about the order of start-up."""
        self._listeners.append(listener)
        if self._snapshot is not None:
            listener(self)

    def look_too(self, look: Callable[[], Awaitable[None]]) -> None:
        """Await ``look`` with each look at the policy; the lease goes on only if it succeeds."""
        self._looks.append(look)

    async def start(self) -> None:
        """Load the first snapshot.

        Raises:
            PolicyError: a stored role cannot be compiled.
            Exception: whatever the database raises; central must not start without a policy.
        """
        async with self._lock:
            await self._update()

    async def refresh(self) -> None:
        """Bring the snapshot up to the database now, as after a write through the API.

        Never fails: what went wrong is logged, and :meth:`run` tries again.
        """
        async with self._lock:
            try:
                await self._update()
            except Exception as error:  # noqa: BLE001 -- whatever it was, the lease runs out
                self._note_failure(error)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 -- no secret
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll_seconds * spread):
                    await self._hurry.wait()
            self._hurry.clear()
            await self.refresh()

    def hurry(self) -> None:
        """Let :meth:`run` look now: another process says that it changed something."""
        self._hurry.set()

    async def _update(self) -> None:
        # The lease counts from before the question: the answer may be old when it arrives.
        asked = self._clock()
        for look in self._looks:
            await look()
        if self._rows is None or await self._has_changed(self._rows):
            rows = await load_policy(self._database, self._today())
            self._snapshot = await _compile(rows, self.facts, self._told_groups)
            self._rows = rows
            self.facts.keep_only(rows.cluster_names.values())
            logger.info("policy.loaded", extra={"version": rows.version, "roles": len(rows.roles)})
            self._untold = list(self._listeners)
        self._tell_listeners()
        self._checked = asked
        if self._failing:
            self._failing = False
            logger.info("policy.recovered", extra={"version": self._rows.version})

    async def _has_changed(self, rows: PolicyRows) -> bool:
        """Whether somebody has changed something, or a lock has ended by itself."""
        if await policy_version(self._database) != rows.version:
            return True
        return rows.ends_at is not None and rows.ends_at <= self._today()

    def _tell_listeners(self) -> None:
        """Raises `PolicyNotTaken` after all were told: the lease is then not renewed."""
        untold, self._untold = self._untold, []
        _LISTENERS.each(untold, lambda listener: listener(self), self._untold.append)
        if self._untold:
            raise PolicyNotTaken(f"{len(self._untold)} of those who follow the policy failed")

    def _note_failure(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            lease = self._settings.lease_seconds
            logger.error("policy.stale", extra={"reason": str(error), "lease_seconds": lease})


class AnnouncedFeed:
    """The policy feed as the management API uses it: a change that it made, others look at, too."""

    def __init__(self, feed: PolicyFeed, announcements: Announcements) -> None:
        self._feed = feed
        self._announcements = announcements

    @property
    def current(self) -> PolicySnapshot:
        """The snapshot in force."""
        return self._feed.current

    async def refresh(self) -> None:
        """Load what the database holds now."""
        self._announcements.tell("policy")
        await self._feed.refresh()


async def _compile(
    rows: PolicyRows, facts: ClusterFacts, told_groups: tuple[str, ...]
) -> PolicySnapshot:
    if sum(len(role.rules) for role in rows.roles) > LARGE_POLICY_RULES:
        return await asyncio.to_thread(compile_rows, rows, facts, told_groups)
    return compile_rows(rows, facts, told_groups)


def compile_rows(
    rows: PolicyRows, facts: ClusterFacts | None = None, told_groups: tuple[str, ...] = ()
) -> PolicySnapshot:
    """Make the snapshot of stored rows.

    Args:
        rows: those.
        facts: what clusters say of themselves.
        told_groups: globs of the groups of logins that clusters may know.

    Raises:
        PolicyError: a role is not one; it names the role.
    """
    roles = []
    for role in rows.roles:
        try:
            roles.append(parse_role(role.name, role.rules, role.limits))
        except PolicyError as error:
            raise PolicyError(f'role "{role.name}".{error.place}', error.problem) from error
    source = PolicySource(
        roles,
        rows.user_roles,
        rows.clusters,
        rows.user_clusters,
        rows.group_roles,
        told_groups,
        locked_clusters=_locked(rows, CLUSTER),
        locked_roles=_locked(rows, ROLE),
    )
    ids = {name: cluster_id for cluster_id, name in rows.cluster_names.items()}
    return PolicySnapshot(source, rows.version, ids, facts)


def _locked(rows: PolicyRows, kind: str) -> dict[str, str]:
    locks = (lock for lock in rows.locks if lock.kind == kind)
    return {lock.target: words_of(lock.reason, lock.ends_at) for lock in locks}
