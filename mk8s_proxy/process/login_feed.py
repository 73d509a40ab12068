"""What the database says of logins, brought to the authenticator. `app` makes it and calls it.

Users, service tokens, locks and federation rules come with each policy, ended logins with each look
at its version. When a service token was used last is written in the background, at most once a
minute for each: nothing waits for it.
"""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

from mk8s_agent.wire.background import Background
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.logins import note_seen
from mk8s_proxy.identity.access_token import TokenAuthenticator
from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.locks import Lock, words_of
from mk8s_proxy.identity.service_token import ServiceLogin
from mk8s_proxy.process.ended_tokens import EndedTokens
from mk8s_proxy.process.policy_feed import PolicyFeed

NOTED_SECONDS: Final = 60.0


class LoginFeed:
    """Keeps what the authenticator knows as fresh as the database.

    Args:
        database: where it is read.
        authenticator: takes it.
        users: takes what it says of users.
        clock: epoch seconds.
        issuers: names of those of the settings whose tokens jobs have.
    """

    def __init__(
        self,
        database: Database,
        authenticator: TokenAuthenticator,
        users: UserDirectory,
        clock: Callable[[], float] = time.time,
        *,
        issuers: Collection[str] = (),
    ) -> None:
        self._issuers = frozenset(issuers)
        self._clock = clock
        self._database = database
        self._authenticator = authenticator
        self._users = users
        self._unwritten: set[str] = set()

    def follow(self, policies: PolicyFeed) -> None:
        """Read with the policy from now on."""
        policies.look_too(EndedTokens(self._database, self._authenticator.revoke).look)
        policies.on_change(self._take)

    def start(self, background: Background) -> None:
        """Write last uses from now on."""
        background.every("last uses of service tokens", NOTED_SECONDS, self.write)

    def _take(self, feed: PolicyFeed) -> None:
        self._users.replace(feed.rows.epochs)
        rules = feed.rows.federation.items()
        live = {rule: issuer for rule, issuer in rules if issuer in self._issuers}
        self._authenticator.federated.replace(live)
        self._authenticator.service_tokens.replace(
            {
                one.secret_hash: ServiceLogin(
                    one.login_id, one.token_id, one.name, one.ends_at.timestamp()
                )
                for one in feed.rows.service_secrets
            }
        )
        self._authenticator.locks.replace(
            Lock(it.kind, it.target, words_of(it.reason, it.ends_at), it.covers)
            for it in feed.rows.locks
        )

    async def write(self) -> None:
        """Write when they were used; what could not be written is written at the next turn."""
        self._unwritten |= self._authenticator.service_tokens.take_used()
        now = datetime.fromtimestamp(self._clock(), UTC)
        await note_seen(self._database, self._unwritten, now)
        self._unwritten.clear()
