"""Around every request: its id, its refusals in one shape, its one log line.

Installed by `application`. Nothing that a client sent is logged except what names it: method,
path without query, its address, and the user that a token or login names.
"""

import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from mk8s_proxy.api import problem_schemas
from mk8s_proxy.api.bodies import NO_STORE, respond
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endpoint import (
    CALL,
    SOURCE_HEADER,
    Call,
    too_many,
    translate_failure,
)
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.identity.throttle import source_key

logger = logging.getLogger("mk8s_proxy.api")

REQUEST_ID_HEADER = "x-request-id"
TRUST_HEADER = "x-mk8s-trust"
"""SHA-256 of what `GET /ca.pem` answers, where central's own CA signed what central shows: a CLI
that has pinned something else asks for it then."""
LONGEST_TEXT = 512
"""Characters of a path or user agent that are kept."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """The one middleware of the application."""

    def __init__(self, context: ApiContext, new_id: Callable[[], AuditId]) -> None:
        self._context = context
        self._new_id = new_id

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer the request, whatever happens below."""
        call = request[CALL] = self._begin(request)
        began = time.monotonic()
        response: web.StreamResponse
        try:
            self._admit(call)
            response = await handler(request)
        except Exception as error:  # noqa: BLE001 - the edge: each failure becomes an answer
            response = _refuse(request, call, error)
        if not response.prepared:
            harden(response, call)
        _log(request, call, response.status, time.monotonic() - began)
        return response

    def _admit(self, call: Call) -> None:
        if seconds := self._context.per_address.take(source_key(call.source)):
            raise too_many("this address", seconds)

    def _begin(self, request: web.Request) -> Call:
        return Call(
            context=self._context,
            request_id=self._new_id(),
            source=request.headers.get(SOURCE_HEADER, ""),
            user_agent=request.headers.get(hdrs.USER_AGENT, "")[:LONGEST_TEXT],
            authorization=tuple(request.headers.getall(hdrs.AUTHORIZATION, ())),
            request=request,
        )


def _refuse(request: web.Request, call: Call, error: Exception) -> web.Response:
    refusal = translate_failure(error)
    call.reason = call.reason or refusal.audit_reason
    if refusal.code == 500:
        # The request id ties this traceback to the answer; the answer shows nothing of it.
        logger.error("api.failure", exc_info=error, extra={"request_id": call.request_id})
        refusal = ApiError(500, f"internal error: tell your admin the id {call.request_id}")
    problem = refusal.body(f"urn:uuid:{call.request_id}", is_oauth=call.is_oauth)
    response = respond(problem, refusal.code, problem_schemas.MEDIA_TYPE)
    if refusal.retry_after is not None:
        response.headers[hdrs.RETRY_AFTER] = str(refusal.retry_after)
    if refusal.code == 401:
        response.headers[hdrs.WWW_AUTHENTICATE] = 'Bearer realm="mk8s"'
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers[hdrs.ALLOW] = ", ".join(sorted(error.allowed_methods))
    return response


def harden(response: web.StreamResponse, call: Call) -> None:
    """Set the headers that every answer has; a handler that streams does it before it begins."""
    response.headers[REQUEST_ID_HEADER] = call.request_id
    response.headers.setdefault(hdrs.CACHE_CONTROL, NO_STORE)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if call.context.settings.tls.certificate is None:
        context = call.context
        response.headers[TRUST_HEADER] = context.authorities.fingerprint(context.now())
    policy = "default-src 'none'; frame-ancestors 'none'"
    response.headers.setdefault("Content-Security-Policy", policy)
    # aiohttp would name itself and its version.
    response.headers[hdrs.SERVER] = "mk8s"


def _log(request: web.Request, call: Call, status: int, seconds: float) -> None:
    fields = {
        "request_id": call.request_id,
        "method": request.method,
        "path": request.rel_url.raw_path[:LONGEST_TEXT],
        "user": call.actor,
        "source": call.source,
        "status": status,
        "reason": call.reason,
        "ms": round(seconds * 1000, 1),
    }
    logger.info("api.request", extra=fields)
