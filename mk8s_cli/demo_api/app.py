"""The aiohttp application: credential, impersonation, path to handler, errors to Status.

Called by `server`. Paths follow Kubernetes's own scheme; see `mk8s_cli.demo_api` for the storeys.
"""

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

from mk8s_cli.demo_api import controllers, documents, pods, reads, samples, subresources, writes
from mk8s_cli.demo_api.reads import answer
from mk8s_cli.demo_api.state import ApiState, Call, SeenRequest, UserInfo
from mk8s_cli.demo_api.status import ApiError

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
logger = logging.getLogger(__name__)
ADMIN = UserInfo("mk8s-demo-admin", "demo", ("system:masters", "system:authenticated"))
HEALTH = {"/healthz", "/livez", "/readyz"}
MAX_BODY_BYTES = 3 << 20
"""kube-apiserver's own limit."""
OPENAPI_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Asked for with an "@" before v1.0, which no media type may have; kube-apiserver answers this."""
REVIEW_GROUPS = {"authentication.k8s.io", "authorization.k8s.io"}
OBJECT: dict[str, Handler] = {
    "GET": reads.get,
    "PUT": writes.update,
    "PATCH": writes.patch,
    "DELETE": writes.delete,
}
COLLECTION: dict[str, Handler] = {
    "GET": reads.list_or_watch,
    "POST": writes.create,
    "DELETE": writes.delete_collection,
}
SUBRESOURCES: dict[str, dict[str, Handler]] = {
    "log": {"GET": pods.log},
    "exec": {"GET": pods.execute, "POST": pods.execute},
    "attach": {"GET": pods.attach, "POST": pods.attach},
    "portforward": {"GET": pods.port_forward, "POST": pods.port_forward},
    "scale": dict.fromkeys(("GET", "PUT", "PATCH"), subresources.scale),
    "eviction": {"POST": subresources.eviction},
    "binding": {"POST": subresources.binding},
    "token": {"POST": subresources.token},
}
STATE: web.AppKey[ApiState] = web.AppKey("state", ApiState)
TOKEN: web.AppKey[str] = web.AppKey("token", str)


def create_app(*, bearer_token: str, log_seconds: float = 1.0) -> web.Application:
    """The demo API with its sample objects; `log_seconds` is the pace of followed logs."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_errors])
    app[STATE] = ApiState()
    app[TOKEN] = bearer_token
    app[pods.LOG_SECONDS] = log_seconds
    samples.load(app[STATE])
    controllers.reconcile(app[STATE])
    app.router.add_route("*", "/{path:.*}", _serve)
    app.cleanup_ctx.append(_controllers)
    return app


async def _controllers(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(controllers.run(app[STATE]), name="demo-controllers")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Renders refusals as Status objects."""
    try:
        return await handler(request)
    except ApiError as error:
        return answer(error.status(), error.code)
    except web.HTTPRequestEntityTooLarge:
        large = ApiError(413, "the request body is too large", "RequestEntityTooLarge")
        return answer(large.status(), large.code)
    except ConnectionError:
        raise  # the client left; aiohttp knows what to do
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return answer(
            ApiError(500, "an error of the demo API itself, see its output").status(), 500
        )


def authenticate(request: web.Request) -> UserInfo:
    """The user of a request; raises 401 without the token and 400 for half an impersonation."""
    given = request.headers.get("Authorization", "").encode(errors="replace")
    if not hmac.compare_digest(given, f"Bearer {request.app[TOKEN]}".encode()):
        raise ApiError(401, "Unauthorized")
    headers = request.headers
    extra: dict[str, list[str]] = {}
    for name, value in headers.items():
        if name.lower().startswith("impersonate-extra-"):
            extra.setdefault(unquote(name.lower()[18:]), []).append(value)
    groups, uid = headers.getall("Impersonate-Group", []), headers.get("Impersonate-Uid", "")
    user = headers.get("Impersonate-User", "")
    if not user:
        if groups or uid or extra:
            raise ApiError(400, "groups, uid or extra without an Impersonate-User")
        return ADMIN
    everyone = [] if "system:authenticated" in groups else ["system:authenticated"]
    return UserInfo(user, uid, tuple(groups + everyone), extra)


async def _serve(request: web.Request) -> web.StreamResponse:
    path = request.path.rstrip("/")
    if path in HEALTH or path.startswith(("/livez/", "/readyz/", "/healthz/")):
        return web.Response(text="ok")
    user = authenticate(request)
    api = request.app[STATE]
    api.seen.append(SeenRequest(request.method, request.path_qs, user, request.headers.copy()))
    parts = path.strip("/").split("/")
    if parts[0] in {"api", "apis"} and (call := _call(api, request, user)):
        return await _handler(call)(call)
    if request.method not in {"GET", "HEAD"}:
        raise _no_path()
    return _document(api, request, parts)


def _no_path() -> ApiError:
    return ApiError(404, "the server could not find the requested resource")


def _call(api: ApiState, request: web.Request, user: UserInfo) -> Call | None:
    """The resource that a path names, None for discovery paths; raises 404."""
    parts = request.path.strip("/").split("/")
    group, rest = (
        ("", parts[1:]) if parts[0] == "api" else (parts[1] if parts[1:] else "", parts[2:])
    )
    if len(rest) < 2:
        return None
    version, *rest = rest
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    kind = api.catalogue.find(group, version, rest[0])
    name, subresource = [*rest[1:], "", ""][:2]
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        raise _no_path()
    if subresource and subresource not in kind.subresources:
        raise _no_path()
    if kind.namespaced and name and not namespace:
        raise _no_path()
    return Call(api, request, user, kind, namespace, name, subresource)


def _handler(call: Call) -> Handler:
    """The handler of a call; raises 405."""
    if call.kind.group in REVIEW_GROUPS:
        table: dict[str, Handler] = {"POST": subresources.review}
    elif call.subresource:
        table = SUBRESOURCES.get(
            call.subresource, {key: OBJECT[key] for key in ("GET", "PUT", "PATCH")}
        )
    else:
        table = OBJECT if call.name else COLLECTION
    found = table.get(call.request.method)
    if found is None:
        message = "the server does not allow this method on the requested resource"
        raise ApiError(405, message)
    return found


def _document(api: ApiState, request: web.Request, parts: list[str]) -> web.Response:
    """Discovery, OpenAPI and /version; raises 404."""
    catalogue = api.catalogue
    match parts:
        case [""]:
            return answer(
                {"paths": ["/api", "/apis", "/healthz", "/openapi/v2", "/openapi/v3", "/version"]}
            )
        case ["version"]:
            return answer(documents.VERSION)
        case ["api" | "apis"]:
            return _discovery(api, request, parts[0])
        case ["apis", group] if group in catalogue.groups():
            head = {"kind": "APIGroup", "apiVersion": "v1"}
            return answer(head | documents.group(catalogue, group))
        case ["api", version] if version == "v1":
            return answer(documents.resource_list(catalogue, "", version))
        case ["apis", group, version] if version in catalogue.versions(group) and group:
            return answer(documents.resource_list(catalogue, group, version))
        case ["openapi", "v2" | "v3", *_]:
            return _openapi(api, request, parts)
    raise _no_path()


def _discovery(api: ApiState, request: web.Request, prefix: str) -> web.Response:
    groups = [""] if prefix == "api" else api.catalogue.groups()
    for entry in request.headers.get("Accept", "").split(","):
        words = {word.strip() for word in entry.split(";")}
        version = next((word[2:] for word in words if word.startswith("v=")), "")
        if "as=APIGroupDiscoveryList" in words and version in {"v2", "v2beta1"}:
            form = f"apidiscovery.k8s.io/{version}"
            found = documents.aggregated(api.catalogue, groups, form)
            media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            return web.Response(body=json.dumps(found).encode(), headers={"Content-Type": media})
    if prefix == "api":
        return answer(documents.api_versions(request.host))
    return answer(documents.group_list(api.catalogue))


def _openapi(api: ApiState, request: web.Request, parts: list[str]) -> web.Response:
    """OpenAPI documents, made once per revision of the catalogue."""
    catalogue, accept = api.catalogue, request.headers.get("Accept", "")
    protobuf = parts == ["openapi", "v2"] and "proto-openapi.spec.v2" in accept
    key = "protobuf" if protobuf else "/".join(parts)
    revision, body = api.documents.get(key, (-1, b""))
    if revision != catalogue.revision:
        body = _make_openapi(api, parts, protobuf=protobuf)
        api.documents[key] = (catalogue.revision, body)
    return web.Response(
        body=body, content_type=OPENAPI_PROTOBUF if protobuf else "application/json"
    )


def _make_openapi(api: ApiState, parts: list[str], *, protobuf: bool) -> bytes:
    catalogue = api.catalogue
    if protobuf:
        return documents.openapi_v2_protobuf(catalogue)
    if parts == ["openapi", "v2"]:
        return json.dumps(documents.openapi_v2(catalogue)).encode()
    if parts == ["openapi", "v3"]:
        return json.dumps(documents.openapi_v3_index(catalogue)).encode()
    group, version = (
        ("", parts[-1]) if parts[2:3] == ["api"] else (parts[3] if parts[3:] else "", parts[-1])
    )
    types = catalogue.in_version(group, version)
    if not types:
        raise _no_path()
    return documents.openapi_v3(catalogue, types)
