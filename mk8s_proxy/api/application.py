"""The management API put together: `app.py` runs what `create_application` returns.

The table of endpoints is the one list of what is served; the OpenAPI document is made from it.
"""

import functools
import importlib.metadata
import json
from typing import Any

from aiohttp import hdrs, web

from mk8s_proxy.api import (
    agents,
    audit,
    ca,
    cluster_rbac,
    clusters,
    delegations,
    device,
    exec_command,
    federation,
    groups,
    identities,
    join,
    keys,
    locks,
    login,
    logins,
    openapi,
    passwords,
    rbac,
    roles,
    sso,
    tokens,
    users,
)
from mk8s_proxy.api.context import ApiContext
from mk8s_proxy.api.endpoint import Access, Call, Door, Endpoint
from mk8s_proxy.api.middleware import Guard
from mk8s_proxy.audit.identifier import new_audit_id

BODY_BYTES = 1 << 20
"""Largest body of a request; the largest real one is a role with a thousand rules."""

HEAD_LIMITS: dict[str, Any] = {"max_line_size": 512 << 10, "max_field_size": 256 << 10}
"""For the server that runs the application: beyond what the listener lets through, since aiohttp
refuses a longer one in a form of its own."""


_SLASHES = ("/groups/{name}", "/groups/{name:.+}")
"""Some issuers call groups by paths, and the listener lets no %2F through. No two endpoints take
the same path for it: a change ends in /roles or /members, anything else does not."""


async def open_api(call: Call) -> web.Response:
    """Describe this API in OpenAPI 3.1."""
    headers = {hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "public, max-age=60"}
    return web.Response(body=_described(call.context.settings.public_url), headers=headers)


@functools.lru_cache(maxsize=8)
def _described(public_url: str) -> bytes:
    return json.dumps(DOCUMENT | {"servers": [{"url": public_url}]}).encode()


def _version() -> str:
    try:
        return importlib.metadata.version("mk8s")
    except importlib.metadata.PackageNotFoundError:
        return "0"


ENDPOINTS: tuple[Endpoint, ...] = (
    *login.ENDPOINTS,
    *logins.ENDPOINTS,
    *sso.ENDPOINTS,
    *device.ENDPOINTS,
    *passwords.ENDPOINTS,
    *delegations.ENDPOINTS,
    *clusters.ENDPOINTS,
    *cluster_rbac.ENDPOINTS,
    *agents.ENDPOINTS,
    *exec_command.ENDPOINTS,
    *users.ENDPOINTS,
    *identities.ENDPOINTS,
    *tokens.ENDPOINTS,
    *roles.ENDPOINTS,
    *groups.ENDPOINTS,
    *federation.ENDPOINTS,
    *rbac.ENDPOINTS,
    *keys.ENDPOINTS,
    *ca.ENDPOINTS,
    *locks.ENDPOINTS,
    *join.ENDPOINTS,
    *audit.ENDPOINTS,
    Endpoint("GET", "/openapi.json", open_api, "Get this document", Access.PUBLIC),
)

DOCUMENT = openapi.document(ENDPOINTS, _version())
"""Made at the import: it takes some 50 ms, for which nobody should wait."""


def create_application(context: ApiContext) -> web.Application:
    """Make the application for the private Unix socket behind the listener.

    Run it with `HEAD_LIMITS` and `access_log=None`: aiohttp's own would write queries, and what
    people put there.
    """
    guard = Guard(context, new_audit_id)
    application = web.Application(client_max_size=BODY_BYTES, middlewares=[guard.answer])
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace(*_SLASHES)
        application.router.add_route(endpoint.method, path, Door(endpoint, context).serve)
    return application
