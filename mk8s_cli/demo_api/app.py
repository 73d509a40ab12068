"""The aiohttp application: credential, impersonation, path to handler, errors to Status.

Called by `server`. Paths follow Kubernetes's own scheme; see `mk8s_cli.demo_api` for the storeys.
"""

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from mk8s_cli.demo_api import discovery, reads, subresources, writes
from mk8s_cli.demo_api.errors import ApiError
from mk8s_cli.demo_api.reads import answer
from mk8s_cli.demo_api.state import ApiState, Call, SeenRequest, UserInfo

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
STATE: web.AppKey[ApiState] = web.AppKey("state", ApiState)
TOKEN: web.AppKey[str] = web.AppKey("token", str)
NO_PATH = "the server could not find the requested resource"
ADMIN = UserInfo("mk8s-demo-admin", "demo", ("system:masters", "system:authenticated"))
MAX_BODY_BYTES = 3 << 20
"""kube-apiserver's own limit."""
OPENAPI_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Asked for with an "@" before v1.0, which no media type may have; kube-apiserver answers this."""
RESOURCE_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/(?!(?:status|finalize)$)))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?"
)
COLLECTION: dict[str, Handler]
COLLECTION = {"GET": reads.collection, "POST": writes.create, "DELETE": writes.delete_collection}
OBJECT: dict[str, Handler] = {"GET": reads.get, "PUT": writes.update, "PATCH": writes.patch}
HANDLERS: dict[str, dict[str, Handler]] = {
    "collection": COLLECTION,
    "object": {**OBJECT, "DELETE": writes.delete},
    "status": OBJECT,
    "scale": dict.fromkeys(("GET", "PUT", "PATCH"), subresources.scale),
    "log": {"GET": subresources.log},
    "exec": dict.fromkeys(("GET", "POST"), subresources.execute),
    "attach": dict.fromkeys(("GET", "POST"), subresources.execute),
    "review": {"POST": subresources.review},
}
"""By what the path names and method."""


def create_app(*, bearer_token: str, log_seconds: float = 1.0) -> web.Application:
    """The demo API with its sample objects; `log_seconds` is the pace of followed logs."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
    app[STATE] = ApiState()
    app[TOKEN] = bearer_token
    app[subresources.LOG_SECONDS] = log_seconds
    app.router.add_route("*", "/{path:.*}", _serve)
    return app


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Renders refusals as Status objects."""
    try:
        return await handler(request)
    except ApiError as error:
        refused = error
    except web.HTTPRequestEntityTooLarge:
        refused = ApiError(413, "the request body is too large", "RequestEntityTooLarge")
    except (TypeError, AttributeError, KeyError) as error:
        # Objects are not checked against their schemas: a part of another type ends here.
        refused = ApiError(400, f"the object has not the form of its kind: {error!r}")
    return answer(refused.status(), refused.code)


def authenticate(request: web.Request) -> UserInfo:
    """The user of a request; raises 401 without the token and 400 for half an impersonation."""
    headers, extra = request.headers, dict[str, list[str]]()
    given = headers.get("Authorization", "").encode(errors="replace")
    if not hmac.compare_digest(given, f"Bearer {request.app[TOKEN]}".encode()):
        raise ApiError(401, "Unauthorized")
    for name, value in headers.items():
        if name.lower().startswith("impersonate-extra-"):
            extra.setdefault(unquote(name.lower()[18:]), []).append(value)
    groups, uid = headers.getall("Impersonate-Group", []), headers.get("Impersonate-Uid", "")
    user = headers.get("Impersonate-User", "")
    if user:
        everyone = [] if "system:authenticated" in groups else ["system:authenticated"]
        return UserInfo(user, uid, tuple(groups + everyone), extra)
    if groups or uid or extra:
        raise ApiError(400, "groups, uid or extra without an Impersonate-User")
    return ADMIN


async def _serve(request: web.Request) -> web.StreamResponse:
    parts = request.path.strip("/").split("/")
    if parts[0] in {"healthz", "livez", "readyz"}:
        return web.Response(text="ok")
    user = authenticate(request)
    api = request.app[STATE]
    api.seen.append(SeenRequest(request.method, request.path_qs, user, request.headers.copy()))
    if found := RESOURCE_PATH.fullmatch(request.path.rstrip("/")):
        call = _call(api, request, user, found.groupdict(""))
        return await _handler(call)(call)
    document = _document(request, parts) if request.method == "GET" else None
    if document is None:
        raise ApiError(404, NO_PATH)
    return document


def _call(api: ApiState, request: web.Request, user: UserInfo, path: dict[str, str]) -> Call:
    """The call of a resource path; raises 404 for what is not served."""
    kind = api.catalogue.find(path["group"], path["version"], path["plural"])
    if kind is None or path["subresource"] not in {"", *kind.subresources}:
        raise ApiError(404, NO_PATH)
    if kind.namespaced < bool(path["namespace"]) or (
        kind.namespaced and path["name"] and not path["namespace"]
    ):
        raise ApiError(404, NO_PATH)
    return Call(api, request, user, kind, path["namespace"], path["name"], path["subresource"])


def _handler(call: Call) -> Handler:
    """The handler of a call; raises 405."""
    named = call.subresource or ("object" if call.name else "collection")
    named = "review" if call.kind.gvk["group"].startswith("auth") else named
    found = HANDLERS.get(named, {}).get(call.request.method)
    if found is None:
        raise ApiError(405, "the server does not allow this method on the requested resource")
    return found


def _document(request: web.Request, parts: list[str]) -> web.Response | None:
    """Discovery, OpenAPI and /version; None for a 404."""
    catalogue, accept = request.app[STATE].catalogue, request.headers.get("Accept", "")
    if parts[0] == "openapi":
        as_protobuf = "proto-openapi.spec.v2" in accept
        body = discovery.openapi(catalogue, parts[1:], as_protobuf=as_protobuf)
        media = OPENAPI_PROTOBUF if as_protobuf else "application/json"
        return web.Response(body=body, content_type=media) if body is not None else None
    if parts in (["api"], ["apis"]):
        found = discovery.aggregated(catalogue, parts[0], accept)
        if found is not None:
            return web.Response(text=json.dumps(found[1]), headers={"Content-Type": found[0]})
    classic = discovery.document(catalogue, parts)
    return None if classic is None else answer(classic)
