"""The management API put together: `app.py` runs what `create_application` returns.

The table of endpoints is the one list of what is served; the OpenAPI document is made from it.
"""

import importlib.metadata
import json

from aiohttp import hdrs, web

from mk8s_proxy.api import (
    agents,
    audit,
    cluster_rbac,
    clusters,
    exec_command,
    join,
    keys,
    login,
    openapi,
    passwords,
    rbac,
    roles,
    tokens,
    users,
)
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endpoint import Access, Call, Door, Endpoint
from mk8s_proxy.api.middleware import Guard
from mk8s_proxy.audit.identifier import new_audit_id

BODY_BYTES = 1 << 20
"""Largest body of a request; the largest real one is a role with a thousand rules."""

ENDPOINTS: tuple[Endpoint, ...] = (
    *login.ENDPOINTS,
    *passwords.ENDPOINTS,
    *clusters.ENDPOINTS,
    *cluster_rbac.ENDPOINTS,
    *agents.ENDPOINTS,
    *exec_command.ENDPOINTS,
    *users.ENDPOINTS,
    *tokens.ENDPOINTS,
    *roles.ENDPOINTS,
    *rbac.ENDPOINTS,
    *keys.ENDPOINTS,
    *join.ENDPOINTS,
    *audit.ENDPOINTS,
)


def create_application(context: ApiContext) -> web.Application:
    """Make the application for the private Unix socket behind the listener.

    Run it with `access_log=None`: aiohttp's own would write queries, and what people put there.
    """
    guard = Guard(context, new_audit_id)
    application = web.Application(client_max_size=BODY_BYTES, middlewares=[guard.answer])
    for endpoint in (*ENDPOINTS, _document_endpoint(context)):
        application.router.add_route(endpoint.method, endpoint.path, Door(endpoint, context).serve)
    return application


def _document_endpoint(context: ApiContext) -> Endpoint:
    document = openapi.document(ENDPOINTS, context.settings.public_url, _version())
    body = json.dumps(document).encode()

    async def open_api(_: Call) -> web.Response:
        headers = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "public, max-age=60"}
        return web.Response(body=body, headers=headers)

    return Endpoint("GET", "/openapi.json", open_api, "Get this document", Access.PUBLIC)


def _version() -> str:
    try:
        return importlib.metadata.version("mk8s")
    except importlib.metadata.PackageNotFoundError:
        return "0"
