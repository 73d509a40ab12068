"""The few requests that the agent sends to the API server as itself, not for a user.

Used by ``mk8s_agent.identity.secret_store`` for the agent's own Secret and by ``mk8s_agent.main``
for the version and the resources that central is told. They are rare and small, each has a
connection of its own; the requests of users never come here (see ``mk8s_agent.apiserver.pool``).
"""

import errno
import os
import ssl
from typing import Any, Final

import orjson

from mk8s_agent.credentials.sources import ApiServerCredentials, CredentialsError
from mk8s_agent.credentials.token_sources import CredentialsGone
from mk8s_agent.wire.control import KIND, MAX_KINDS
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.https_call import CallError, Place, https_call

REQUEST_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 2 * 1024 * 1024
"""A Secret is at most 1 MiB."""


class ApiServerUnreachable(Exception):
    """There was no usable answer; the sentence says why."""


def connect_reason(error: DialError) -> str:
    """Say in a few words why there is no connection."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError):
        return getattr(cause, "verify_message", "") or cause.reason or "TLS failed"
    # asyncio words its own strerror; that of the number is what people know
    known = getattr(cause, "errno", 0)
    if known in errno.errorcode:
        return os.strerror(known)
    return str(getattr(cause, "strerror", None) or cause or error)


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
    where = "the API server at " + authority(credentials)
    try:
        answer = await https_call(
            Place(
                credentials.host,
                credentials.port,
                credentials.tls_context(http2=False),
                credentials.tls_server_name or credentials.host,
                credentials.proxy,
            ),
            method,
            credentials.path_prefix + target,
            _headers(credentials, body, accept),
            body,
            limit=MAX_ANSWER_BYTES,
            seconds=REQUEST_SECONDS,
        )
    except DialError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise ApiServerUnreachable(f"{where} does not answer") from error
        sentence = f"cannot connect to {where}: {connect_reason(error)}"
        raise ApiServerUnreachable(sentence) from error
    except (CallError, CredentialsGone, CredentialsError) as error:
        raise ApiServerUnreachable(f"cannot use {where}: {error}") from error
    return answer.status, answer.body


def authority(credentials: ApiServerCredentials) -> str:
    """Give host and port for a message."""
    host = f"[{credentials.host}]" if ":" in credentials.host else credentials.host
    return f"{host}:{credentials.port}"


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
