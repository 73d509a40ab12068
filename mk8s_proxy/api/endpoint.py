"""One endpoint of the management API as a value, and the door that each request goes through.

`application` makes a `Door` for each `Endpoint` of the handlers' tables; `openapi` reads the same
tables, so what is documented is what is served.
"""

import dataclasses
import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiohttp import web

from mk8s_proxy.api import conditions
from mk8s_proxy.api.audit_rows import AuditRow
from mk8s_proxy.api.bodies import (
    JSON,
    parse_query,
    read_body,
    read_form,
    respond,
    respond_older,
    tagged,
)
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.errors import ApiError, translate
from mk8s_proxy.api.narrowings import require_readable
from mk8s_proxy.api.schemas import Model, Page
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.db import groups, service_tokens, users
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.revisions import Condition
from mk8s_proxy.db.roles import ADMIN_ROLE
from mk8s_proxy.db.users import UserRecord
from mk8s_proxy.identity.federation import is_federated_user
from mk8s_proxy.identity.identity import Identity, Unauthenticated
from mk8s_proxy.identity.service_token import is_service_user

SOURCE_HEADER = "x-mk8s-source-ip"
"""The client's address, written by the listener over whatever the client sent."""

OLDER_CLI = "mk8s"
"""The User-Agent of CLIs from before lists had pages and were named after their resource."""
OLDER_CLI_ITEMS = 20_000
"""So many such a CLI takes in one list."""

_NOT_DELEGATED = (
    "a delegation reads what it may use, and does nothing else here: its owner can do this"
)
_ModelType = TypeVar("_ModelType", bound=Model)


class Access(enum.Enum):
    """Who may call an endpoint."""

    PUBLIC = "public"
    """Anybody; what it takes is in the body."""
    USER = "user"
    """Whoever has a valid access token that is not bound to a cluster."""
    ADMIN = "admin"
    """Users with the role admin."""


class Audit(enum.Enum):
    """What the journal gets."""

    NOTHING = "nothing"
    """Reading: the log line is enough."""
    CREDENTIAL = "credential"
    """One row, before the answer leaves: without it no credential is handed out."""
    CHANGE = "change"
    """A row before the change and one after it: without the first nothing is changed."""
    GRANT = "grant"
    """The same, and none for a refusal: for what is asked again and again until it is there."""
    OWN_CHANGE = "own change"
    """The same for a public endpoint, whose handler has first to find out who asks: it awaits
    `Call.begin_change`."""


async def _no_row() -> None:
    raise AssertionError("an endpoint without Audit.OWN_CHANGE has no change of its own to begin")


@dataclasses.dataclass(slots=True)
class Call:
    """One request on its way through the API."""

    context: ApiContext
    request_id: AuditId
    source: str
    """The client's address."""
    user_agent: str
    authorization: tuple[str, ...]
    """The Authorization headers; one is right."""
    route: str = ""
    """The endpoint's path as the table has it."""
    path: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The variable parts of the path, decoded."""
    condition: Condition | None = None
    """What must be there for a change to be made."""
    body: Model | None = None
    query: Model | None = None
    identity: Identity | None = None
    user: UserRecord | None = None
    """The caller as the database has it now."""
    actor: str = ""
    """Who acts, for log and audit; for a login the name that was claimed."""
    actor_id: str = ""
    """Id of the user who acts, once that is certain."""
    token_id: str = ""
    """The access token's jti."""
    delegate: str = ""
    """What a delegation is called, "" for the user."""
    subject: str = ""
    """The object that it is about: a user's email, a role's or a cluster's name."""
    cluster: str = ""
    """The cluster that it is about."""
    reason: str = ""
    """Why it was refused, for log and audit; the client may be told less."""
    refused: ApiError | None = None
    """What a browser is told by a page, or at the address where it is sent."""
    begin_change: Callable[[], Awaitable[None]] = _no_row
    """Writes the row of a change that is about to happen; raises if it must not."""
    granted_by: str = f"role {ADMIN_ROLE}"
    """What allows it, for the audit."""
    command: tuple[str, ...] = ()
    """The command that is asked for, as the audit may know it."""
    prepared: object = None
    """What the endpoint's `prepare` found out."""
    is_oauth: bool = False
    """Whether it is refused in the words of OAuth."""
    request: web.Request | None = None
    """What aiohttp knows of it: for answers that are streamed, and for whether the client left."""

    def read(self, kind: type[_ModelType]) -> _ModelType:
        """Return the body, which the door has parsed as the endpoint's model."""
        assert isinstance(self.body, kind)
        return self.body

    def read_query(self, kind: type[_ModelType]) -> _ModelType:
        """Return the query, which the door has parsed as the endpoint's model."""
        assert isinstance(self.query, kind)
        return self.query

    def caller(self) -> tuple[Identity, UserRecord]:
        """Return who calls; only for endpoints that are not public."""
        assert self.identity is not None
        assert self.user is not None
        return self.identity, self.user

    @property
    def older_cli_items(self) -> int:
        """How many items a list has for a CLI that knows no pages; 0 for all other clients."""
        return OLDER_CLI_ITEMS if self.user_agent == OLDER_CLI else 0

    @property
    def is_admin(self) -> bool:
        """Whether the caller has the role admin at this moment; a delegation never has."""
        return self.user is not None and self.user.administers and not self.is_delegation

    @property
    def is_delegation(self) -> bool:
        """Whether the caller's login was delegated."""
        return self.identity is not None and self.identity.is_delegation


Result = Model | Versioned | web.Response | None
Handler = Callable[[Call], Awaitable[Result | web.StreamResponse]]
Preparation = Callable[[Call], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of the table of endpoints."""

    method: str
    path: str
    handler: Handler
    summary: str
    access: Access
    audit: Audit = Audit.NOTHING
    request: type[Model] | None = None
    query: type[Model] | None = None
    """Its parameters behind the "?"; where there is no model, they are ignored."""
    response: type[Model] | None = None
    status: int = 200
    conditional: bool = False
    """Whether a change takes If-Match and If-None-Match; every GET takes the latter."""
    refusals: tuple[int, ...] = ()
    """Statuses beyond those that access and body imply, for the OpenAPI document."""
    verb: str = "get"
    """Kubernetes's word for what it does, for the audit."""
    resource: str = ""
    """What it does it to, for the audit."""
    media_type: str = "application/json"
    streamed_as: str = ""
    """The media type in which the answer comes bit by bit, for whoever accepts that."""
    prepare: Preparation | None = None
    """What comes before the row of a change: it may say more of the call, or refuse it."""
    takes: str = JSON
    """The media type of its request."""
    otherwise: "Endpoint | None" = None
    """What a request of another media type asks for at the same address."""
    is_oauth: bool = False
    """Whether clients of OAuth call it, which look for `error` in a refusal."""
    delegates: bool = False
    """Whether a delegation may call it, too: it must do no more there than its narrowing says."""


CALL: web.RequestKey[Call] = web.RequestKey("call", Call)


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """An endpoint's aiohttp handler."""

    endpoint: Endpoint
    context: ApiContext

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Admit, parse, audit, answer. Refusals are raised; the middleware writes them."""
        other = self.endpoint.otherwise
        if other is not None and request.content_type == other.takes:
            return await Door(other, self.context).serve(request)
        call = request[CALL]
        call.path = request.match_info
        call.route, call.is_oauth = self.endpoint.path, self.endpoint.is_oauth
        if self.endpoint.audit is Audit.NOTHING:
            return await self._answer(call, request, None)
        row = AuditRow(self.context.journal, self.endpoint.verb, self.endpoint.resource, call)
        call.begin_change = lambda: _open(row, request)
        try:
            response = await self._answer(call, request, row)
        except Exception as error:
            refusal = translate_failure(error)
            call.reason = call.reason or refusal.audit_reason
            if self.endpoint.audit is not Audit.GRANT:
                await row.close(request, refusal.code, refusal.message)
            raise
        code, message = response.status, ""
        if call.refused is not None:
            code, message = call.refused.code, call.refused.message
            call.reason = call.reason or call.refused.audit_reason
        if not await row.close(request, code, message) and not row.opened:
            raise journal_down()
        return response

    async def _answer(
        self, call: Call, request: web.Request, row: AuditRow | None
    ) -> web.StreamResponse:
        await self._admit(call)
        if any("\x00" in part for part in call.path.values()):
            raise ApiError(404, "a name cannot contain a NUL")  # PostgreSQL would fail at it
        if self.endpoint.query is not None:
            call.query = parse_query(request, self.endpoint.query)
        if self.endpoint.request is not None:
            read = read_body if self.endpoint.takes == JSON else read_form
            call.body = await read(request, self.endpoint.request)
        if self.endpoint.conditional:
            call.condition = conditions.condition_of(request)
        if self.endpoint.prepare is not None:
            await self.endpoint.prepare(call)
        if row is not None and self.endpoint.audit is Audit.CHANGE:
            await _open(row, request)
        result = await self.endpoint.handler(call)
        if isinstance(result, web.StreamResponse) and not isinstance(result, web.Response):
            return result
        return self._write(call, request, result)

    def _write(self, call: Call, request: web.Request, result: Result) -> web.Response:
        if isinstance(result, web.Response):
            return tagged(request, result)
        if call.older_cli_items and isinstance(result, Page):
            return respond_older(result)
        if isinstance(result, Versioned):
            return tagged(request, respond(result.model, self.endpoint.status), result.revision)
        return tagged(request, respond(result, self.endpoint.status))

    async def _admit(self, call: Call) -> None:
        if self.endpoint.access is Access.PUBLIC:
            return
        call.identity = authenticate(call)
        call.actor, call.token_id = call.identity.user, call.identity.token_id
        call.actor_id, call.delegate = call.identity.uid, call.identity.delegate
        if call.is_delegation and not self.endpoint.delegates:
            raise ApiError(403, _NOT_DELEGATED, audit_reason="DELEGATION")
        require_readable(call.identity.narrowing)
        if seconds := self.context.per_identity.take(call.actor_id):
            raise too_many("you", seconds)
        call.user = await current_user(call)
        if self.endpoint.access is Access.ADMIN and not call.is_admin:
            raise ApiError(403, f'this needs the role "{ADMIN_ROLE}": ask one of your admins')


async def _open(row: AuditRow, request: web.Request) -> None:
    if not await row.open(request):
        raise journal_down()


def authenticate(call: Call) -> Identity:
    """Verify the one Authorization header.

    Raises:
        Unauthenticated: None, more than one, not valid, or only good for one cluster.
    """
    if len(call.authorization) > 1:
        raise Unauthenticated("DUP_AUTHORIZATION", "send one Authorization header, not several")
    value = "".join(call.authorization)
    identity = call.context.authenticator.authenticate(value.encode("utf-8", "surrogateescape"))
    if identity.cluster:
        raise Unauthenticated(
            "TOKEN_CLUSTER", "this access token is good for a cluster's requests only"
        )
    return identity


async def current_user(call: Call) -> UserRecord:
    """Read the caller from the database: rights taken away a moment ago are gone.

    Raises:
        Unauthenticated: Deleted, disabled, or all logins were ended.
    """
    assert call.identity is not None
    if is_service_user(call.identity.user):
        return await _service_token(call.context, call.identity)
    if is_federated_user(call.identity.user):
        return await as_federated(call.context, call.identity)
    try:
        user = await users.get_by_id(call.context.database, call.identity.uid)
    except NotFound:
        raise Unauthenticated("USER_DISABLED", "this account is gone: ask your admin") from None
    if user.disabled:
        raise Unauthenticated("USER_DISABLED", "this account is disabled: ask your admin")
    if user.token_epoch != call.identity.epoch:
        raise Unauthenticated("TOKEN_EPOCH", "the login was ended: run mk8s login")
    return await groups.asking(call.context.database, user, call.identity.groups)


async def _service_token(context: ApiContext, identity: Identity) -> UserRecord:
    """A service token as a user: it has roles, and neither a password nor an epoch."""
    try:
        token = await service_tokens.get_by_id(context.database, identity.uid)
    except NotFound:
        raise Unauthenticated("SERVICE_TOKEN_ENDED", "the service token was revoked") from None
    return UserRecord(
        id=token.id,
        email=identity.user,
        name="",
        password_hash=None,
        disabled=False,
        token_epoch=identity.epoch,
        roles=token.roles,
        created_at=token.created_at,
        clusters=token.clusters,
    )


async def as_federated(context: ApiContext, identity: Identity) -> UserRecord:
    """A job as a user: without a row of its own, it has the roles of its rules."""
    job = UserRecord(
        id=identity.uid,
        email=identity.user,
        name=identity.name,
        password_hash=None,
        disabled=False,
        token_epoch=identity.epoch,
        roles=(),
        created_at=context.now(),
    )
    return await groups.asking(context.database, job, identity.groups)


def too_many(sender: str, seconds: int) -> ApiError:
    """Refuse a request that is one too many."""
    message = f"too many requests from {sender}: try again in {seconds} s"
    return ApiError(429, message, audit_reason="TOO_MANY_REQUESTS", retry_after=seconds)


def journal_down() -> ApiError:
    """Refuse for want of an audit row."""
    return ApiError(
        503, "central cannot write its audit log: try again", audit_reason="Journal", retry_after=5
    )


def translate_failure(error: Exception) -> ApiError:
    """Return the refusal that any failure becomes; what nobody foresaw is a 500."""
    if isinstance(error, web.HTTPException):
        return ApiError(error.status, http_message(error))
    return translate(error) or ApiError(500, "internal error", audit_reason="InternalError")


def http_message(error: web.HTTPException) -> str:
    """Say what aiohttp's own refusals mean here."""
    return {
        404: "there is no such endpoint: see /openapi.json",
        405: "this endpoint does not take that method: see /openapi.json",
        413: "the body is too large: at most 1 MiB",
    }.get(error.status, error.reason)
