"""What the management API is given by `app.py`, and what it needs of its neighbours.

Handlers reach everything through `ApiContext`; nothing here is global.
"""

import dataclasses
import datetime
import time
from collections.abc import Callable
from typing import Protocol

from mk8s_proxy.api.audit_rows import Journal
from mk8s_proxy.api.exec_runner import CommandRunner
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.db.announcements import Announcements
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.access_token import SigningKeys, TokenAuthenticator
from mk8s_proxy.identity.authorities import AuthorityKeeper
from mk8s_proxy.identity.login_queue import LoginQueue
from mk8s_proxy.identity.oidc.providers import Providers
from mk8s_proxy.identity.passwords import ROUNDS, PasswordHasher, at_once
from mk8s_proxy.identity.request_rate import RequestRate
from mk8s_proxy.identity.throttle import (
    PER_EXCHANGE_SOURCE,
    PER_JOIN_SOURCE,
    LoginThrottle,
    Throttle,
)
from mk8s_proxy.settings.model import Settings

SIGN_INS = 60
"""A minute: an office behind one address in the morning. Each keeps a row for some minutes."""
JOB_LOGINS = 300
"""A minute, of jobs that are called the same, such as a matrix: each keeps a row for days."""
FEW_SIGN_INS = 3
"""A minute: whoever begins more has no part in the half of the places that is kept for others."""
GUESSES, ALL_GUESSES = 10, 300
"""A minute, of one in 2.5e10 codes: with 20,000 waiting, all guesses of a day together find one
with a chance of a third, and whoever owns it has seen another machine before saying yes."""


class TunnelStatus(Protocol):
    """What the tunnels know of one cluster."""

    @property
    def connected(self) -> bool:
        """Whether a request could be relayed now."""

    @property
    def agents(self) -> int:
        """Agents that hold a tunnel."""

    @property
    def agent_version(self) -> str:
        """As registered, "" when unknown."""

    @property
    def kubernetes_version(self) -> str:
        """As registered, "" when unknown."""

    @property
    def last_seen(self) -> datetime.datetime | None:
        """Last heartbeat, None when there was none."""


class Tunnels(Protocol):
    """The registry of tunnels."""

    def status(self, cluster_id: str) -> TunnelStatus:
        """Return the state of a cluster's tunnels, also for a cluster without any."""

    def serials(self, cluster_id: str) -> list[str]:
        """Return the agent's certificate of each live tunnel of a cluster."""

    def serials_not_of(self, issuer: str) -> set[str]:
        """Return the certificates of live tunnels that another authority has signed."""


class PolicyFeed(Protocol):
    """The policy that the handler chain decides by, and the users whose tokens it accepts."""

    @property
    def current(self) -> PolicySnapshot:
        """The snapshot in force."""

    async def refresh(self) -> None:
        """Load what the database holds now; return when it is in force here."""


@dataclasses.dataclass(slots=True)
class ApiContext:
    """Everything that handlers may use."""

    settings: Settings
    database: Database
    keys: SigningKeys
    authenticator: TokenAuthenticator
    policy_feed: PolicyFeed
    authorities: AuthorityKeeper
    journal: Journal
    tunnels: Tunnels
    clock: Callable[[], float] = time.time
    """Epoch seconds: token lives, audit times."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that never jump: delays and durations."""
    announcements: Announcements = dataclasses.field(default_factory=Announcements)
    """The other workers of this machine."""
    rounds: int = ROUNDS
    """What a password costs."""
    commands: CommandRunner | None = None
    """Runs kubectl for callers; None where that is switched off."""
    passwords: PasswordHasher = dataclasses.field(init=False)
    logins: LoginQueue = dataclasses.field(init=False)
    joins: Throttle = dataclasses.field(init=False)
    exchanges: Throttle = dataclasses.field(init=False)
    """Of tokens of jobs that were refused, from one address."""
    job_logins: RequestRate = dataclasses.field(init=False)
    """Of jobs that were let in, by their subject."""
    sign_ins: RequestRate = dataclasses.field(init=False)
    """Of logins that begin at an issuer, from one address."""
    few_sign_ins: RequestRate = dataclasses.field(init=False)
    """The same, up to what is few."""
    guesses: RequestRate = dataclasses.field(init=False)
    """Of codes of machines, from one address."""
    all_guesses: RequestRate = dataclasses.field(init=False)
    """The same from all addresses together."""
    issuers: Providers = dataclasses.field(init=False)
    """Who vouches for people and jobs."""
    per_identity: RequestRate = dataclasses.field(init=False)
    """Of all requests with a valid access token."""
    per_address: RequestRate = dataclasses.field(init=False)
    """Of all requests."""

    def __post_init__(self) -> None:
        workers = at_once(self.settings.workers)
        self.passwords = PasswordHasher(rounds=self.rounds, workers=workers)
        throttle = LoginThrottle(self.monotonic, self._tell_attempt)
        self.logins = LoginQueue(throttle, self._tell_login)
        self.joins = Throttle(PER_JOIN_SOURCE, self.monotonic, self._tell_attempt)
        self.exchanges = Throttle(PER_EXCHANGE_SOURCE, self.monotonic, self._tell_attempt)
        self.issuers = Providers(
            self.settings.login,
            self.settings.public_url,
            clock=self.clock,
            monotonic=self.monotonic,
        )
        self.job_logins = RequestRate(JOB_LOGINS, self.monotonic)
        self.sign_ins = RequestRate(SIGN_INS, self.monotonic)
        self.few_sign_ins = RequestRate(FEW_SIGN_INS, self.monotonic)
        self.guesses = RequestRate(GUESSES, self.monotonic)
        self.all_guesses = RequestRate(ALL_GUESSES, self.monotonic)
        limits = self.settings.limits
        self.per_identity = RequestRate(limits.api_per_identity, self.monotonic)
        self.per_address = RequestRate(limits.api_per_address, self.monotonic)
        self.announcements.on("attempt", self._note_attempt)
        self.announcements.on("login", self.logins.note)

    def now(self) -> datetime.datetime:
        """Return the clock's time as the database wants it."""
        return datetime.datetime.fromtimestamp(self.clock(), datetime.UTC)

    def _tell_attempt(self, rule: str, event: str, key: str) -> None:
        self.announcements.tell("attempt", rule, event, key)

    def _tell_login(self, event: str, source: str, account: str) -> None:
        self.announcements.tell("login", event, source, account)

    def _note_attempt(self, rule: str, event: str, key: str) -> None:
        for throttle in (*self.logins.throttle.throttles, self.joins, self.exchanges):
            if throttle.name == rule:
                throttle.note(event, key)
