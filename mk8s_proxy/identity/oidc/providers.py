"""All issuers of the settings, by name. Made by the API's context, once for each process."""

from collections.abc import Callable
from typing import Final

from mk8s_proxy.identity.oidc.provider import Provider
from mk8s_proxy.identity.oidc.token_issuer import TokenIssuer
from mk8s_proxy.settings.login import LoginSettings

CALLBACK: Final = "/auth/sso/callback"
"""Where providers send browsers back to, behind central's public URL."""


class Providers:
    """The issuers of people, and those of jobs."""

    def __init__(
        self,
        settings: LoginSettings,
        public_url: str,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.people = {
            it.name: Provider(it, public_url + CALLBACK, clock=clock, monotonic=monotonic)
            for it in settings.issuers
        }
        """By whom people log in."""
        self.jobs = {
            it.name: TokenIssuer(it, clock=clock, monotonic=monotonic) for it in settings.federation
        }
        """Whose tokens jobs have."""
