"""Access tokens for commands and for the exec plugin: cached, or refreshed once for everybody.

Called by `get-token` and by every command that talks to central. It never prompts: who cannot be
refreshed is told to log in. A refresh token serves once (central rotates it and treats a second use
as theft), hence the lock per central and the order below: the new refresh token is stored first.

Where nothing can be written (a read-only home, a full disk) the stored token keeps serving: central
gives the same successor for the same attempt, as long as that successor is unused.
"""

import time
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.central.api import Central, Grant
from mk8s_cli.login import config, service_token, token_cache, trusted
from mk8s_cli.terminal.errors import CliError, NotLoggedIn, Refused, Unreachable, Unwritable
from mk8s_cli.terminal.private_files import ensure_directory, locked
from mk8s_cli.terminal.screen import warn

if TYPE_CHECKING:
    from mk8s_cli.central.transport import Transport
    from mk8s_cli.login.credentials import Stored

AS_IT_IS_SECONDS = 3600.0
"""How long a service token is taken to be good within one command."""
_NO_PROOF = frozenset({400, 401, 403})
"""What central answers to a token that it does not take for a proof."""
LOCK_SECONDS = 40.0
"""Long enough for one refresh with all its retries in the process that holds the lock."""


def connect(profile: config.Profile) -> Central:
    """Return central as seen by `profile`, with an access token bound to no cluster.

    When central refuses that, all that are cached are forgotten, those for kubectl too.
    """

    if profile.secrets == service_token.ENVIRONMENT:
        return Central(transport(profile), service_token.of_environment().token)

    def renew() -> str:
        token_cache.clear(profile.central)
        return access_token(profile, "").token

    return Central(transport(profile), access_token(profile, "").token, renew)


def transport(profile: config.Profile, *, quiet: bool = False) -> "Transport":
    """Return the way to central that trusts what was pinned at login."""
    # TLS and HTTP cost more to import than all the rest: help and completion need neither.
    from mk8s_cli.central.transport import Transport, trusting

    return Transport(profile.central, trusting(profile.certificate_authority), quiet=quiet)


def access_token(profile: config.Profile, cluster: str) -> AccessToken:
    """Return a fresh access token bound to `cluster` ("" for none), from the cache if there is one.

    Raises:
        NotLoggedIn: there is no refresh token, or central does not take it any more.
        CliError: central is out of reach or refuses the cluster.
    """
    if profile.secrets == service_token.ENVIRONMENT:
        return _of_service_token(profile, service_token.of_environment().token, cluster)
    cached = token_cache.load(profile.central, cluster)
    if cached is not None:
        return cached
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(profile.central))
        except Unwritable:
            # Nothing will be written, so nothing has to be guarded.
            return _refresh(profile, cluster)
        # Of many that waited here, the first one has already filled the cache.
        return token_cache.load(profile.central, cluster) or _refresh(profile, cluster)


def credential(profile: config.Profile, cluster: str, asking: int) -> AccessToken:
    """As `access_token`, for the process `asking`; a new one if it doubts the one that it has got.

    Raises:
        NotLoggedIn, CliError: as `access_token`.
    """
    if profile.secrets == service_token.ENVIRONMENT:
        return access_token(profile, cluster)
    cached = token_cache.load(profile.central, cluster)
    if cached is None or not token_cache.is_doubted(profile.central, cluster, cached, asking):
        token = access_token(profile, cluster)
    else:
        token = _replaced(profile, cluster, cached)
    token_cache.is_doubted(profile.central, cluster, token, asking)  # from now on it has this one
    return token


def _replaced(profile: config.Profile, cluster: str, doubted: AccessToken) -> AccessToken:
    """A token in place of one that somebody doubts, unless central cannot be asked."""
    try:
        with lock(profile.central):
            current = token_cache.load(profile.central, cluster)
            if current is not None and current.token != doubted.token:
                return current
            return _refresh(profile, cluster)
    except NotLoggedIn:
        raise
    except CliError:
        return doubted


def lock(central: str) -> AbstractContextManager[None]:
    """Return the lock to be held while the refresh token of `central` is used or replaced."""
    directory = token_cache.central_directory(central)
    ensure_directory(directory)
    return locked(directory / ".lock", LOCK_SECONDS)


def _refresh(profile: config.Profile, cluster: str) -> AccessToken:
    """Spend the refresh token; the caller holds the lock of this central."""
    from mk8s_cli.login import credentials

    # Read again: a login or refresh may have changed where the secret is while we waited.
    profile = config.profile_for(profile.central)
    if profile.secrets == config.JOB:
        return _of_job(profile, cluster)
    stored = credentials.load(profile.central, profile.email, profile.secrets)
    if not stored.refresh_token:
        raise NotLoggedIn(profile.again)
    if service_token.is_one(stored.refresh_token):
        return _refresh_by_service_token(profile, stored.refresh_token, cluster)
    try:
        # A token for no cluster is for a call of our own, which then warns of the clock itself.
        central = Central(transport(profile, quiet=not cluster))
        grant = central.refresh(stored.refresh_token, stored.attempt, cluster)
    except Refused as refusal:
        _refuse_cluster(refusal, cluster)
        if refusal.code != 401:
            raise
        _forget(profile)
        raise NotLoggedIn(profile.again, _why(refusal)) from refusal
    _store(profile, grant, stored, cluster)
    trusted.follow(profile, central.transport)
    return grant.access_token


def _store(profile: config.Profile, grant: Grant, spent: "Stored", cluster: str) -> None:
    """Keep what a refresh gave; where nothing can be kept, what was spent serves again."""
    try:
        keep(profile, grant, spent.where)
        token_cache.save(profile.central, cluster, grant.access_token)
    except Unwritable as error:
        if not spent.attempt:
            raise
        if error.is_full:
            warn(f"{error}; until then each command asks central for a token")


def _of_service_token(profile: config.Profile, token: str, cluster: str) -> AccessToken:
    """Return an access token for one cluster; central itself takes the service token as it is."""
    if not cluster:
        now = time.time()
        return AccessToken(token, now, now + AS_IT_IS_SECONDS)
    central = Central(transport(profile, quiet=True), token)
    try:
        exchanged = central.cluster_token(cluster)
    except Refused as refusal:
        _refuse_cluster(refusal, cluster)
        raise
    if profile.secrets != service_token.ENVIRONMENT:  # a job keeps nothing
        trusted.follow(profile, central.transport)
    return exchanged


def _refresh_by_service_token(profile: config.Profile, token: str, cluster: str) -> AccessToken:
    """The same for a service token that was stored by a login, which stays as it is."""
    try:
        exchanged = _of_service_token(profile, token, cluster)
    except Refused as refusal:
        if refusal.code != 401:
            raise
        raise NotLoggedIn(profile.again, str(refusal).partition(":")[0]) from refusal
    if cluster:
        with suppress(Unwritable):
            token_cache.save(profile.central, cluster, exchanged)
    return exchanged


def _of_job(profile: config.Profile, cluster: str) -> AccessToken:
    """Return an access token of a job's login; when that is over, the job's next token opens one.

    Raises:
        NotLoggedIn: the job has no token that is good any more.
    """
    held = token_cache.load(profile.central, "")
    if not cluster:
        return held or _exchanged(profile)
    if held is not None:
        with suppress(_LoginOver):
            return _for_cluster(profile, held, cluster)
    try:
        return _for_cluster(profile, _exchanged(profile), cluster)
    except _LoginOver as over:
        raise NotLoggedIn(profile.again, str(over)) from over


class _LoginOver(Exception):
    """Central does not take the access token of a job any more."""


def _for_cluster(profile: config.Profile, held: AccessToken, cluster: str) -> AccessToken:
    try:
        token = Central(transport(profile, quiet=True), held.token).cluster_token(cluster)
    except Refused as refusal:
        _refuse_cluster(refusal, cluster)
        if refusal.code != 401:
            raise
        raise _LoginOver(_why(refusal)) from refusal
    with suppress(Unwritable):
        token_cache.save(profile.central, cluster, token)
    return token


def _exchanged(profile: config.Profile) -> AccessToken:
    """Open a login by the token that the job has now."""
    from mk8s_cli.login import job_token

    try:
        proof = job_token.read(profile.job_token, profile.audience)
        central = Central(transport(profile))
        token = central.exchange(proof)
    except Unreachable:
        raise
    except Refused as refusal:
        if refusal.code not in _NO_PROOF:
            raise
        raise NotLoggedIn(profile.again, f"the job's token is refused: {refusal}") from refusal
    except CliError as error:
        raise NotLoggedIn(profile.again, f"the login of the job is over, and {error}") from error
    with suppress(Unwritable):
        token_cache.save(profile.central, "", token)
    trusted.follow(profile, central.transport)
    return token


def _refuse_cluster(refusal: Refused, cluster: str) -> None:
    """Say it in the words of `mk8s use`: central does not tell one from the other."""
    if refusal.code == 404 and cluster:
        line = f"cluster {cluster} is unknown or not yours; run: mk8s clusters list"
        raise CliError(line) from refusal


def _why(refusal: Refused) -> str:
    """Say why a login is over, without what to do about it: that is ours to say."""
    return str(refusal).removesuffix(": run mk8s login")


def _forget(profile: config.Profile) -> None:
    """Forget a login that has ended, where that is possible."""
    from mk8s_cli.login import credentials

    with suppress(Unwritable):
        credentials.delete(profile.central, profile.email)


def keep(profile: config.Profile, grant: Grant, prefer: str) -> None:
    """Store the new refresh token before the grant is used, and where it is if that changed."""
    from mk8s_cli.login import credentials

    where = credentials.save(profile.central, profile.email, grant.refresh_token, prefer=prefer)
    if where != profile.secrets:
        moved = replace(profile, secrets=where)
        config.update(lambda stored: stored.with_profile(moved))


def seconds_left(token: AccessToken) -> int:
    """Return how long `token` is valid, in whole seconds, by this machine's clock."""
    return max(0, int(token.expires - time.time()))
