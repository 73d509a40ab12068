"""The ways of logging in: password, single sign-on, service token, the token of a job.

Called by `mk8s login`, which keeps what they return and writes the kubeconfig.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.central.api import Central, Grant, text
from mk8s_cli.login import config, service_token
from mk8s_cli.login.config import Profile
from mk8s_cli.terminal import screen as terminal
from mk8s_cli.terminal.errors import CliError, Refused
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.validation import EMAIL, JOB_USER, SERVICE_USER

if TYPE_CHECKING:
    from mk8s_cli.central.transport import Transport
    from mk8s_cli.login.methods import Issuer, Methods

PATIENCE_SECONDS = 30.0
"""How much of what central asks to wait (Retry-After) a login waits by itself, in all."""
WAIT_CODES = frozenset({429, 503})
FORBIDDEN = 403
"""What a login with the right password gets when that must be changed first."""
NEW_PASSWORD = "your new password"
_LAST_TIME = {config.SERVICE_TOKEN: "service-token", config.FEDERATION: "federated"}
"""What is done again when nothing is said; people's ways depend on what central offers now."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of how to log in."""

    way: str = ""
    """"password", "browser", "device", "service-token" or "federated"; "" if nothing says."""
    email: str = ""
    password_stdin: bool = False
    issuer: str = ""
    token_file: Path | None = None
    token_variable: str = ""
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A login: how it is remembered, and what came of it."""

    profile: Profile
    """With its email and by what it was opened."""
    secret: str
    """What is kept: a refresh token or a service token; "" for a job, which has a new one."""
    access: AccessToken | None
    """None for a service token, which serves as it is."""

    @property
    def bearer(self) -> str:
        """A token bound to no cluster."""
        return self.access.token if self.access is not None else self.secret


def log_in(known: Profile, transport: "Transport", asked: Asked) -> Opened:
    """Log in as it was asked for, as last time, or as central and this terminal allow."""
    way = asked.way
    if asked.email or asked.password_stdin:
        way = "password"
    elif not way and not asked.issuer:
        way = _LAST_TIME.get(known.source, "")
    if way == "service-token":
        return _by_service_token(known, transport)
    if way == "federated":
        return _by_job_token(known, transport, asked)
    if way == "password":
        return _by_password(known, transport, asked)
    return _by_best(known, transport, asked)


def _by_best(known: Profile, transport: "Transport", asked: Asked) -> Opened:
    from mk8s_cli.login import browser, methods

    offered = methods.offered(Central(transport))
    wish = methods.Wish(
        asked.way,
        is_single_sign_on=_was_single_sign_on(known, asked),
        can_browse=browser.is_here(),
        has_person=terminal.is_interactive(),
    )
    way = methods.choose(offered, wish)
    if way == methods.PASSWORD:
        return _by_password(known, transport, asked)
    issuer = _issuer(offered, asked.issuer or known.issuer, named=bool(asked.issuer))
    return _by_single_sign_on(known, transport, way, issuer)


def _was_single_sign_on(known: Profile, asked: Asked) -> bool | None:
    if asked.issuer:
        return True
    return known.source == config.SINGLE_SIGN_ON if known.source else None


def _issuer(offered: "Methods", wanted: str, *, named: bool) -> "Issuer":
    """Return the issuer to sign in at; of several a person chooses one."""
    from mk8s_cli.login import methods

    if not named and wanted not in {it.name for it in offered.issuers}:
        wanted = ""
    found = methods.issuer_of(offered, wanted)
    if found is not None:
        return found
    told = methods.listed(offered.issuers)
    if not terminal.is_interactive():
        raise CliError(f"central has several issuers: add --issuer NAME, one of: {told}")
    terminal.note(f"issuers: {told}")
    answer = terminal.ask("which one")
    chosen = methods.issuer_of(offered, answer)
    if chosen is None:
        raise CliError("no issuer was chosen: add --issuer NAME")
    return chosen


def _by_single_sign_on(
    known: Profile, transport: "Transport", way: str, issuer: "Issuer"
) -> Opened:
    from mk8s_cli.login import methods, single_sign_on

    sign_on = single_sign_on.by_device if way == methods.DEVICE else single_sign_on.by_browser
    grant = sign_on(Central(transport), issuer.name)
    if not EMAIL.fullmatch(grant.email):
        raise CliError("central's answer is refused: it names nobody")
    profile = _opened_by(known, config.SINGLE_SIGN_ON, grant.email, issuer.name)
    return Opened(profile, grant.refresh_token, grant.access_token)


def _by_password(known: Profile, transport: "Transport", asked: Asked) -> Opened:
    """Log in with a password, which is changed first where it must be."""
    email, password_stdin = asked.email, asked.password_stdin
    email = _email(email or known.email, ask=not email)
    password = terminal.read_password(f"password of {email}", from_stdin=password_stdin)
    try:
        grant = _grant(Central(transport), email, password)
    except Refused as refused:
        if refused.code != FORBIDDEN or not (password_stdin or terminal.is_interactive()):
            raise
        terminal.note("this password was chosen by somebody else: choose one of your own")
        new = terminal.read_password(NEW_PASSWORD, from_stdin=password_stdin, twice=True)
        Central(transport).change_password(email, password, new)
        grant = _grant(Central(transport), email, new)
    named = grant.email if EMAIL.fullmatch(grant.email) else email
    profile = _opened_by(known, config.PASSWORD, named)
    return Opened(profile, grant.refresh_token, grant.access_token)


def _by_service_token(known: Profile, transport: "Transport") -> Opened:
    """Log in by a service token, which is kept as a refresh token is, and serves as it is."""
    if service_token.in_use():
        token = service_token.of_environment().token
    else:
        from_stdin = not terminal.is_interactive()
        typed = terminal.read_password("service token", from_stdin=from_stdin)
        token = service_token.checked(typed, "stdin" if from_stdin else "what was typed")
    named = _who(Central(transport, token))
    if not SERVICE_USER.fullmatch(named):
        raise CliError("central's answer is refused: it names no service token")
    return Opened(_opened_by(known, config.SERVICE_TOKEN, named), token, None)


def _by_job_token(known: Profile, transport: "Transport", asked: Asked) -> Opened:
    """Log in by the token of a job, of which nothing is kept but where it is."""
    from mk8s_cli.login import job_token, methods

    source = _source_of_job(known, asked)
    audience = asked.audience
    if source == job_token.GITHUB and not audience:
        trusted = methods.offered(Central(transport)).federation or {}
        audience = job_token.audience_of(trusted, transport.central)
    proof = job_token.read(source, audience)
    with waiting("logging in"):
        access = Central(transport).exchange(proof)
    named = _who(Central(transport, access.token))
    if not JOB_USER.fullmatch(named):
        raise CliError("central's answer is refused: it names nobody")
    profile = _opened_by(known, config.FEDERATION, named)
    return Opened(replace(profile, job_token=source, audience=audience), "", access)


def _source_of_job(known: Profile, asked: Asked) -> str:
    """Where the token is: as named, where it is usual, or where it was last time."""
    from mk8s_cli.login import job_token

    try:
        return job_token.find(asked.token_file, asked.token_variable)
    except CliError:
        if not known.job_token:
            raise
        return known.job_token


def _opened_by(known: Profile, source: str, email: str, issuer: str = "") -> Profile:
    return replace(known, email=email, source=source, issuer=issuer, job_token="", audience="")


def _who(central: Central) -> str:
    user = central.whoami().get("user")
    return text(user, "email") if isinstance(user, dict) else ""


def _email(email: str, *, ask: bool) -> str:
    if ask and terminal.is_interactive():
        default = f" [{email}]" if email else ""
        email = terminal.ask(f"email{default}") or email
    if not EMAIL.fullmatch(email):
        raise CliError("whose login? add --email you@example.com")
    return email


def _grant(central: Central, email: str, password: str) -> Grant:
    """Log in; a short wait that central asks for is waited here, with a word about it."""
    left = PATIENCE_SECONDS
    while True:
        try:
            with waiting("logging in"):
                return central.login(email, password)
        except Refused as refused:
            pause = refused.retry_after
            if refused.code not in WAIT_CODES or pause is None or pause > left:
                raise
        pause = max(1.0, pause)
        left -= pause
        terminal.note(f"central asks to wait {pause:.0f} s before the next try: waiting")
        time.sleep(pause)
