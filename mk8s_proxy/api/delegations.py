"""`/delegations`: logins that may do less than their owner, for assistants, scripts, colleagues.

Whoever has a login of their own opens one under it. It is decided by the owner's roles and by its
narrowing (`mk8s_proxy.authz.narrowing`), ends at the latest with the owner's login, and cannot
delegate again: a delegation calls only endpoints that say so (`Endpoint.delegates`).
"""

import dataclasses
import datetime
import json
import uuid

from mk8s_proxy.api import schemas
from mk8s_proxy.api.delegation_schemas import (
    Delegated,
    DelegationRequest,
    MadeDelegation,
)
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.login import answer_tokens
from mk8s_proxy.api.visibility import Viewer, visible_names
from mk8s_proxy.authz.narrowing import Narrowing, parse_narrowing
from mk8s_proxy.authz.policy import PolicyError
from mk8s_proxy.db import logins
from mk8s_proxy.db.errors import Expired
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.identity import refresh
from mk8s_proxy.identity.federation import is_federated_user
from mk8s_proxy.identity.identity import Unauthenticated
from mk8s_proxy.identity.service_token import is_service_user

_PARTS = ("clusters", "namespaces", "verbs", "resources")


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A delegation that may be opened."""

    login: NewLogin
    narrowing: Narrowing


async def prepare_delegation(call: Call) -> None:
    """Judge a delegation before the row that allows it, and tell that row what it is."""
    identity, user = call.caller()
    if is_service_user(user.email) or is_federated_user(user.email) or not identity.login:
        raise ApiError(403, "only a login of a person can delegate: run mk8s login")
    body = call.read(DelegationRequest)
    given = {part: value for part in _PARTS if (value := getattr(body, part)) is not None}
    try:
        narrowing = parse_narrowing(given)
    except PolicyError as error:
        raise ApiError.invalid(error.place, error.problem) from None
    login = NewLogin(
        str(uuid.uuid4()),
        user.id,
        call.context.now() + datetime.timedelta(seconds=_seconds(call, body.seconds)),
        source=logins.DELEGATION,
        client=call.user_agent,
        address=call.source,
        label=body.label,
        groups=identity.of_login.groups if identity.of_login else (),
        narrowing=narrowing.text(),
        parent=identity.login,
    )
    call.subject = refresh.delegate_of(login)
    call.granted_by = f"its owner's login, for {narrowing}"
    call.prepared = Prepared(login, narrowing)


async def create_delegation(call: Call) -> schemas.Model:
    """Open a delegation."""
    prepared, (_, user) = call.prepared, call.caller()
    assert isinstance(prepared, Prepared)
    context, login = call.context, prepared.login
    try:
        token = await refresh.open_delegation(context.database, login, now=context.now())
    except Expired:
        raise Unauthenticated("LOGIN_ENDED", "the login has ended: run mk8s login") from None
    answer = await answer_tokens(call, user, token, None)
    viewer = Viewer(user, login.narrowing)
    return MadeDelegation(
        **dict(answer),
        delegation=_described(login),
        clusters=sorted(await visible_names(context, viewer)),
    )


def _described(login: NewLogin) -> Delegated:
    return Delegated(
        id=login.id,
        delegate=refresh.delegate_of(login),
        narrowing=schemas.Narrowing(**json.loads(login.narrowing)),
        ends_at=login.ends_at,
    )


def _seconds(call: Call, seconds: int) -> int:
    """How long it shall live, if it may. Nothing is cut: its owner counts on the time."""
    most = call.context.settings.tokens.delegation_seconds
    if seconds > most:
        raise ApiError.invalid("seconds", f"must be at most {most} here")
    identity, _ = call.caller()
    left = int(identity.login_ends - call.context.clock())
    if seconds > left:
        problem = f"your login ends in {left} s, and so would the delegation: run mk8s login first"
        raise ApiError.invalid("seconds", problem)
    return seconds


ENDPOINTS = (
    Endpoint(
        "POST",
        "/delegations",
        create_delegation,
        "Open a login that may do no more than its owner and what is said here",
        Access.USER,
        Audit.CHANGE,
        request=DelegationRequest,
        response=MadeDelegation,
        status=201,
        refusals=(403, 409),
        verb="create",
        resource="delegations",
        prepare=prepare_delegation,
    ),
)
