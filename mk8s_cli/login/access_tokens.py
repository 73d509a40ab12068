"""Access tokens for commands and for the exec plugin: cached, or refreshed once for everybody.

Called by `get-token` and by every command that talks to central. It never prompts: who cannot be
refreshed is told to log in. A refresh token serves once (central rotates it and treats a second use
as theft), hence the lock per central and the order below: the new refresh token is stored first.
"""

import time
from dataclasses import replace

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.central.api import Central, Grant
from mk8s_cli.central.transport import Transport, trusting
from mk8s_cli.login import config, credentials, token_cache
from mk8s_cli.terminal.errors import CliError, NotLoggedIn, Refused
from mk8s_cli.terminal.private_files import ensure_directory, locked

LOCK_SECONDS = 40.0
"""Long enough for one refresh with all its retries in the process that holds the lock."""


def connect(profile: config.Profile) -> Central:
    """Return central as seen by `profile`, with an access token bound to no cluster.

    When central refuses that, all that are cached are forgotten, those for kubectl too.
    """

    def renew() -> str:
        token_cache.clear(profile.central)
        return access_token(profile, "").token

    return Central(transport(profile), access_token(profile, "").token, renew)


def transport(profile: config.Profile, *, quiet: bool = False) -> Transport:
    """Return the way to central that trusts what was pinned at login."""
    return Transport(profile.central, trusting(profile.certificate_authority), quiet=quiet)


def access_token(profile: config.Profile, cluster: str) -> AccessToken:
    """Return a fresh access token bound to `cluster` ("" for none), from the cache if there is one.

    Raises:
        NotLoggedIn: there is no refresh token, or central does not take it any more.
        CliError: central is out of reach or refuses the cluster.
    """
    cached = token_cache.load(profile.central, cluster)
    if cached is not None:
        return cached
    directory = token_cache.central_directory(profile.central)
    ensure_directory(directory)
    with locked(directory / ".lock", LOCK_SECONDS):
        # Of many that waited here, the first one has already filled the cache.
        return token_cache.load(profile.central, cluster) or _refresh(profile, cluster)


def _refresh(profile: config.Profile, cluster: str) -> AccessToken:
    """Spend the refresh token; the caller holds the lock of this central."""
    # Read again: a login or refresh may have changed where the secret is while we waited.
    profile = config.profile_for(profile.central)
    refresh_token = credentials.load(profile.central, profile.email, profile.secrets)
    if not refresh_token:
        raise NotLoggedIn(profile.central)
    try:
        # A token for no cluster is for a call of our own, which then warns of the clock itself.
        grant = Central(transport(profile, quiet=not cluster)).refresh(refresh_token, cluster)
    except Refused as refusal:
        if refusal.code == 404 and cluster:
            # In the words of `mk8s use`: central does not tell one from the other.
            line = f"cluster {cluster} is unknown or not yours; run: mk8s clusters list"
            raise CliError(line) from refusal
        if refusal.code != 401:
            raise
        credentials.delete(profile.central, profile.email)
        why = str(refusal).removesuffix(": run mk8s login")
        raise NotLoggedIn(profile.central, why) from refusal
    keep(profile, grant)
    token_cache.save(profile.central, cluster, grant.access_token)
    return grant.access_token


def keep(profile: config.Profile, grant: Grant) -> config.Profile:
    """Store the new refresh token before the grant is used; return the profile that finds it."""
    where = credentials.save(
        profile.central, profile.email, grant.refresh_token, prefer=profile.secrets
    )
    if where == profile.secrets:
        return profile
    moved = replace(profile, secrets=where)
    config.update(lambda stored: stored.with_profile(moved))
    return moved


def seconds_left(token: AccessToken) -> int:
    """Return how long `token` is valid, in whole seconds, by this machine's clock."""
    return max(0, int(token.expires - time.time()))
