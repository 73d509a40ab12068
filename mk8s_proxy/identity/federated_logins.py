"""Which jobs that were let in by a token of their own may go on. Pure.

Filled by `app` from each policy that the feed loads, asked by `TokenAuthenticator`: where a rule or
its issuer is gone, so is every login by it, although its access token is still good.
"""

# compiled: every request of a job asks it

from collections.abc import Mapping
from typing import Final

from mk8s_proxy.identity.federation import GROUP_PREFIX, USER_PREFIX
from mk8s_proxy.identity.identity import Identity, Unauthenticated

_GONE: Final = (
    "a federation rule by which this job was let in is gone, or its issuer is: "
    "show a new token of the job (mk8s login --federated), or ask an administrator"
)


class FederatedLogins:
    """The rules in force, in memory. It starts empty: then no job may go on."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self.generation = 0
        """Grows with every change that could turn a good login into a bad one."""

    def replace(self, rules: Mapping[str, str]) -> None:
        """Take the state of the database and of the settings: the issuer of each rule."""
        if rules != self._rules:
            self._rules = dict(rules)
            self.generation += 1

    def require_live(self, identity: Identity) -> None:
        """Refuse a job one of whose rules is gone, or is another issuer's by now.

        Raises:
            Unauthenticated: It must ask anew.
        """
        issuer = identity.user.removeprefix(USER_PREFIX).partition(":")[0]
        rules = [group for group in identity.login_groups if group.startswith(GROUP_PREFIX)]
        live = [self._rules.get(rule.removeprefix(GROUP_PREFIX)) == issuer for rule in rules]
        if not live or not all(live):
            raise Unauthenticated("FEDERATION_GONE", _GONE)
