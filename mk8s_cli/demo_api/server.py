"""The demo API as a server: TLS, credential, impersonation, path to handler, errors to Status.

Used by `__main__` (and through it by `mk8s demo`) and by the tests of every part:

    async with running_demo_api() as server:
        server.url, server.ca_pem, server.token, server.kubeconfig()
"""

import base64
import binascii
import contextlib
import hmac
import re
import secrets
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import trustme
from aiohttp import web

from mk8s_cli.demo_api import (
    discovery,
    media,
    pods,
    port_forward,
    reads,
    remote_command,
    reviews,
    subresources,
    writes,
)
from mk8s_cli.demo_api.call import TOKEN, USER, Call
from mk8s_cli.demo_api.objects import ApiError, Document
from mk8s_cli.demo_api.reviews import ADMIN
from mk8s_cli.demo_api.store import Store
from mk8s_cli.demo_api.upgrades import BEARER, OFFERS, WEBSOCKET, is_bearer

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
MAX_BODY_BYTES = 3 << 20
"""kube-apiserver's own limit."""
HEAD_BYTES = 1 << 20
"""Go's own limit of a head (net/http DefaultMaxHeaderBytes): a command may be long."""
HEALTH = {f"{name}{check}" for name in ("healthz", "livez", "readyz") for check in ("", "/ping")}
REVIEWED = {"authentication.k8s.io", "authorization.k8s.io"}
"""Groups whose kinds are only questions."""
SHUTDOWN_SECONDS = 0.2
RESOURCE_PATH = re.compile(
    r"/(?:api|apis/([^/]+))/([^/]+)"
    r"(?:/namespaces/([^/]+)(?=/(?!(?:status|finalize)$)))?"
    r"/([^/]+)(?:/([^/]+)(?:/([^/]+))?)?"
)
"""Group, version, namespace, plural, name, subresource."""
COLLECTION = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
OBJECT = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
"""The verbs of methods; subresources may also be created."""
HANDLERS: dict[str, Handler] = {
    "get": reads.get,
    "list": reads.collection,
    "create": writes.create,
    "update": writes.update,
    "patch": writes.update,
    "delete": writes.delete,
    "deletecollection": writes.delete,
    "scale": subresources.scale,
    "eviction": subresources.evict,
    "log": pods.log,
    "exec": remote_command.execute,
    "attach": remote_command.execute,
    "portforward": port_forward.forward,
}
"""By subresource, where it has its own, or verb."""
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: demo-api, cluster: {{server: "{url}", certificate-authority-data: "{ca}"}}}}]
users: [{{name: demo-api, user: {{token: "{token}"}}}}]
contexts: [{{name: demo-api, context: {{cluster: demo-api, user: demo-api}}}}]
current-context: demo-api
"""


@dataclass(slots=True)
class DemoApi:
    """A running demo API: the CA of its certificate, the bearer token that it wants, its URL."""

    ca_pem: bytes
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    url: str = ""
    store: Store = field(default_factory=Store)
    seen: deque[web.Request] = field(default_factory=lambda: deque(maxlen=1000))
    """Authenticated requests, for the assertions of tests."""

    def kubeconfig(self) -> str:
        """A kubeconfig (YAML) with one context."""
        authority = base64.b64encode(self.ca_pem).decode()
        return KUBECONFIG.format(url=self.url, ca=authority, token=self.token)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The answer to a request; refusals as Status objects."""
        try:
            return await self._answer(request)
        except ApiError as error:
            refused = error
        except web.HTTPRequestEntityTooLarge:
            refused = ApiError(413, "the request body is too large", "RequestEntityTooLarge")
        except (TypeError, AttributeError, KeyError) as error:
            # Objects are not checked against their schemas: a part of another type ends here.
            refused = ApiError(400, f"the object has not the form of its kind: {error!r}")
        return media.refusal(request, refused)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        if path in HEALTH:
            return web.Response(text="ok", headers=media.NO_CACHE)
        if not hmac.compare_digest(_credential(request), f"Bearer {self.token}".encode()):
            raise ApiError(401, "Unauthorized")
        request[USER] = _user(request)
        self.seen.append(request)
        if call := self._call(request, f"/{path}"):
            handler = _handler(call)
            if not call.subresource:
                call.form()  # what cannot be answered in an accepted form is not begun
            return await handler(call)
        return discovery.answer(self.store.catalogue, path, request)

    def _call(self, request: web.Request, path: str) -> Call | None:
        """The call of a resource path; None for what is not served."""
        if (found := RESOURCE_PATH.fullmatch(path)) is None:
            return None
        group, version, namespace, plural, name, subresource = found.groups("")
        kind = self.store.catalogue.kinds.get((group, version, plural))
        if kind is None or subresource not in {"", *kind.subresources}:
            return None
        if bool(namespace) != kind.entry["namespaced"] and (namespace or name):
            return None  # only whole collections are also served across namespaces
        return Call(self.store, request, kind, namespace, name, subresource)


def _credential(request: web.Request) -> bytes:
    """What a client shows: its Authorization, or the WebSocket protocol that stands for it."""
    found = request.headers.get("Authorization", "")
    if not found and request.headers.get("Upgrade", "").lower() == WEBSOCKET:
        names = ",".join(request.headers.getall(OFFERS[WEBSOCKET], [])).split(",")
        tokens = [name.strip().removeprefix(BEARER) for name in names if is_bearer(name)]
        with contextlib.suppress(binascii.Error, ValueError):
            if len(tokens) == 1 and len(names) > 1:
                return b"Bearer " + base64.b64decode(tokens[0] + "==", altchars=b"-_")
    return found.encode(errors="replace")


def _user(request: web.Request) -> Document:
    """Who is asking, after impersonation; raises 400 for half of one."""
    headers = request.headers
    user, uid = headers.get("Impersonate-User", ""), headers.get("Impersonate-Uid", "")
    groups, extra = headers.getall("Impersonate-Group", []), dict[str, list[str]]()
    for name, value in headers.items():
        if name.lower().startswith("impersonate-extra-"):
            extra.setdefault(unquote(name.lower()[18:]), []).append(value)
    if not user and (groups or uid or extra):
        raise ApiError(400, "groups, uid or extra without an Impersonate-User")
    groups = list(dict.fromkeys([*groups, "system:authenticated"]))
    found = {"username": user, "uid": uid, "groups": groups, "extra": extra}
    return {key: value for key, value in found.items() if value} if user else ADMIN


def _handler(call: Call) -> Handler:
    """The handler of a call; raises 405 for a verb that discovery does not name."""
    verbs, method = OBJECT if call.name else COLLECTION, call.request.method
    if method == "HEAD" and call.kind.is_custom:  # kube-apiserver refuses it for its own kinds
        method = "GET"
    verb = (COLLECTION | verbs if call.subresource else verbs).get(method, "")
    is_everywhere = call.kind.entry["namespaced"] and not call.namespace
    if verb not in call.kind.subresources.get(call.subresource, call.kind.entry)["verbs"] or (
        verb == "create" and is_everywhere
    ):
        raise ApiError(405, "the server does not allow this method on the requested resource")
    if call.kind.gvk["group"] in REVIEWED and verb == "create":
        return reviews.review
    return HANDLERS.get(call.subresource) or HANDLERS[verb]


@contextlib.asynccontextmanager
async def running_demo_api(*, port: int = 0, log_seconds: float = 1.0) -> AsyncIterator[DemoApi]:
    """A demo API on a loopback port (0: any free one), stopped at the end.

    `log_seconds` is the pace of followed logs.

    Raises:
        OSError: the port is in use.
    """
    authority = trustme.CA(organization_name="mk8s demo")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.set_alpn_protocols(["http/1.1"])
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(tls)
    api = DemoApi(authority.cert_pem.bytes())
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[pods.LOG_SECONDS] = log_seconds
    app[TOKEN] = api.token
    app.router.add_route("*", "/{path:.*}", api.serve)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_SECONDS,
        handler_cancellation=True,
        max_line_size=HEAD_BYTES,
        max_field_size=HEAD_BYTES,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        api.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        yield api
    finally:
        await runner.cleanup()
