"""The few requests that the agent sends to the API server as itself, not for a user.

Used by ``mk8s_agent.identity.secret_store`` for the agent's own Secret and by ``mk8s_agent.main``
for the version and the resources that central is told. They are rare and small, so aiohttp serves
them; the requests of users never come here (see ``mk8s_agent.apiserver.pool``).
"""

import errno
import os
import ssl
from typing import Any, Final

import aiohttp
import orjson

from mk8s_agent.credentials.sources import ApiServerCredentials, CredentialsError, CredentialsGone
from mk8s_agent.wire.control import KIND, MAX_KINDS

REQUEST_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""A Secret is at most 1 MiB."""


class ApiServerUnreachable(Exception):
    """There was no usable answer; the sentence says why."""


async def read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes.

    Raises:
        ValueError: it is longer.
    """
    content = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        content += chunk
        if len(content) > limit:
            raise ValueError(f"the answer is longer than {limit} bytes")
    return bytes(content)


def connect_reason(error: aiohttp.ClientConnectorError) -> str:
    """Say in a few words why there is no connection; aiohttp's own would name a context object."""
    cause = error.os_error
    if isinstance(cause, ssl.SSLError):
        return getattr(cause, "verify_message", "") or cause.reason or "TLS failed"
    # asyncio words its own strerror; that of the number is what people know
    known = cause.errno if cause.errno in errno.errorcode else 0
    return os.strerror(known) if known else str(cause.strerror or cause)


async def request_as_agent(
    credentials: ApiServerCredentials,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    accept: str = "application/json",
) -> tuple[int, bytes]:
    """Send one request and give the answer's status and body.

    Args:
        credentials: of the agent; refreshing them is not this function's business.
        method: ``GET`` or ``PATCH``, whose body is a JSON merge patch.
        target: path and query.
        body: JSON.
        accept: the form of the answer.

    Raises:
        ApiServerUnreachable: no connection, no credential, no trust, or an oversized answer.
    """
    host = f"[{credentials.host}]" if ":" in credentials.host else credentials.host
    url = f"https://{host}:{credentials.port}{credentials.path_prefix}{target}"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(REQUEST_SECONDS)) as client,
            client.request(
                method,
                url,
                data=body or None,
                headers=_headers(credentials, body, accept),
                ssl=credentials.tls_context(http2=False),
                server_hostname=credentials.tls_server_name,
                allow_redirects=False,
            ) as response,
        ):
            return response.status, await read_limited(response, MAX_ANSWER_BYTES)
    except aiohttp.ClientConnectorError as error:
        sentence = f"cannot connect to the API server at {host}:{credentials.port}: "
        raise ApiServerUnreachable(sentence + connect_reason(error)) from error
    except TimeoutError as error:
        sentence = f"the API server at {host}:{credentials.port} does not answer"
        raise ApiServerUnreachable(sentence) from error
    except (aiohttp.ClientError, ValueError, CredentialsGone, CredentialsError) as error:
        sentence = f"cannot use the API server at {host}:{credentials.port}: {error}"
        raise ApiServerUnreachable(sentence) from error


def _headers(credentials: ApiServerCredentials, body: bytes, accept: str) -> dict[str, str]:
    headers = {"Accept": accept, "User-Agent": "mk8s-agent"}
    if body:  # kube-apiserver 1.20 answers 406 to a GET that has a content type
        headers["Content-Type"] = "application/merge-patch+json"
    authorization = credentials.authorization()
    if authorization:
        headers["Authorization"] = authorization.decode()
    return headers


async def kubernetes_version(credentials: ApiServerCredentials) -> str:
    """Ask for the ``gitVersion`` of the API server.

    Raises:
        ApiServerUnreachable: it cannot be asked, or does not say.
    """
    status, content = await request_as_agent(credentials, "GET", "/version")
    try:
        version = orjson.loads(content)["gitVersion"] if status == 200 else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        version = None
    if not isinstance(version, str) or not version.isprintable() or len(version) > 100:
        raise ApiServerUnreachable(
            f"the API server at {credentials.host} answered {status} without a version"
        )
    return version


async def own_resources(
    credentials: ApiServerCredentials,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ask which resources of Kubernetes's own groups are cluster-scoped, and which namespaced.

    Aggregated discovery says it in two answers (v2beta1 since Kubernetes 1.26, v2 since 1.30). Of
    an older API server, or one that answers something else, both are empty.

    Raises:
        ApiServerUnreachable: it cannot be asked.
    """
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for target in ("/api", "/apis"):
        status, content = await request_as_agent(
            credentials, "GET", target, accept=_AGGREGATED_DISCOVERY
        )
        try:
            groups = orjson.loads(content)["items"] if status == 200 else []
            for group in groups:
                _collect(group, found)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return (), ()
    cluster_scoped, namespaced = (tuple(sorted(found[key])) for key in (False, True))
    if max(len(cluster_scoped), len(namespaced)) > MAX_KINDS:
        return (), ()
    return cluster_scoped, namespaced


def _collect(group: dict[str, Any], found: dict[bool, set[str]]) -> None:
    name = group["metadata"].get("name", "")
    if "." in name and not name.endswith(".k8s.io"):
        return
    for version in group["versions"]:
        for resource in version.get("resources", ()):
            kind = f"{resource['resource']}.{name}".rstrip(".")
            if KIND.fullmatch(kind):
                found[resource["scope"] == "Namespaced"].add(kind)


_AGGREGATED_DISCOVERY: Final = ",".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    for version in ("v2", "v2beta1")
)
