"""The authority that was pinned at login, when another one follows it.

Called by `access_tokens` whenever central has given a token. Central says in each answer what it is
to be verified by; where that is something else than what is pinned here, it is fetched over a
connection that the pinned one verifies, and kept if it verifies central by itself. Nobody else can
move the pin: who could has the key of the old authority.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from mk8s_cli.login import config
from mk8s_cli.terminal.errors import CliError

if TYPE_CHECKING:
    from mk8s_cli.central.transport import Transport

moved: dict[str, str] = {}
"""By central: what is to be pinned from now on (PEM). `main` keeps it when the command has ended,
in the kubeconfig and in our own file; one that becomes another program leaves it to the next."""


def follow(profile: config.Profile, transport: "Transport") -> None:
    """Note what central is to be verified by from now on; never fails, another time will do."""
    known, told = profile.certificate_authority, transport.trust_told
    if not known or not told:
        return
    import hashlib

    if told == hashlib.sha256(known.encode()).hexdigest():
        return
    from mk8s_cli.central import trust

    try:
        fresh = trust.followed(transport)
    except CliError:
        return  # what is pinned has just verified central
    if fresh != known:
        moved[profile.central] = fresh


def keep() -> None:
    """Pin what has moved."""
    config.update(_pinned)
    moved.clear()


def _pinned(stored: config.Config) -> config.Config:
    for central, authority in moved.items():
        profile = stored.profile(central)
        if profile is not None:
            stored = stored.with_profile(replace(profile, certificate_authority=authority))
    return stored
