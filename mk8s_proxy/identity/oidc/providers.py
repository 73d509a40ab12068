"""All issuers of the settings, by name. Made by the API's context, once for each process."""

from collections.abc import Callable
from typing import Final

from mk8s_proxy.identity.oidc.provider import Provider
from mk8s_proxy.identity.oidc.token_issuer import TokenIssuer
from mk8s_proxy.settings.login import LoginSettings

CALLBACK: Final = "/auth/sso/callback"
"""Where providers send browsers back to, behind central's public URL, each of them with its name
behind it: else one could pass another's answer off as its own, and have central send the code to it
(RFC 9700 section 4.4), since not all of them say in the answer who they are."""


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
        back = public_url + CALLBACK
        self.people = {
            it.name: Provider(it, f"{back}/{it.name}", clock=clock, monotonic=monotonic)
            for it in settings.issuers
        }
        """By whom people log in."""
        self.jobs = {
            it.name: TokenIssuer(it, clock=clock, monotonic=monotonic) for it in settings.federation
        }
        """Whose tokens jobs have."""
