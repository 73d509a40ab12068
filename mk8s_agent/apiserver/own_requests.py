"""The few requests that the agent sends to the API server as itself, not for a user.

Used by ``mk8s_agent.identity.secret_store`` for the agent's own Secret, by ``mk8s_agent.agent`` for
the version and the resources that central is told, and by ``mk8s_agent.apiserver.own_rights``. They
are rare and small, each has a connection of its own; the requests of users never come here (see
``mk8s_agent.apiserver.pool``).
"""

# interpreted: a door to sockets, it waits more than it works

import errno
import os
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import orjson

from mk8s_agent.credentials.sources import ApiServerCredentials, CredentialsError
from mk8s_agent.credentials.token_sources import CredentialsGone
from mk8s_agent.wire.control import KIND, MAX_KINDS
from mk8s_agent.wire.dial import DialError
from mk8s_agent.wire.https_call import Answer, CallError, Place, https_call

REQUEST_SECONDS: Final = 10.0
_OK: Final = 200
_NOT_MODIFIED: Final = 304
_Kinds: TypeAlias = dict[bool, set[str]]
"""Resources, by whether they live in namespaces."""
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
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, bytes]:
    """Send one request and give the answer's status and body.

    Args:
        credentials: of the agent; refreshing them is not this function's business.
        method: ``GET``, ``POST`` or ``PATCH``, whose body is a JSON merge patch.
        target: path and query.
        body: JSON.
        headers: more of them; a ``POST`` names the type of its body.

    Raises:
        ApiServerUnreachable: no connection, no credential, no trust, or an oversized answer.
    """
    accepted = {"Accept": "application/json"}
    answer = await _ask(credentials, method, target, body, accepted | dict(headers))
    return answer.status, answer.body


async def _ask(
    credentials: ApiServerCredentials,
    method: str,
    target: str,
    body: bytes,
    headers: dict[str, str],
) -> Answer:
    where = "the API server at " + authority(credentials)
    try:
        return await https_call(
            Place(
                credentials.host,
                credentials.port,
                credentials.tls_context(http2=False),
                credentials.tls_server_name or credentials.host,
                credentials.proxy,
            ),
            method,
            credentials.path_prefix + target,
            _headers(credentials, body) | headers,
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


def authority(credentials: ApiServerCredentials) -> str:
    """Give host and port for a message."""
    host = f"[{credentials.host}]" if ":" in credentials.host else credentials.host
    return f"{host}:{credentials.port}"


def _headers(credentials: ApiServerCredentials, body: bytes) -> dict[str, str]:
    headers = {"User-Agent": "mk8s-agent"}
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


class OwnResources:
    """Which resources of Kubernetes's own groups are cluster-scoped, and which namespaced.

    Aggregated discovery says it in two answers (v2beta1 since Kubernetes 1.26, v2 since 1.30), each
    with an ETag: what has not changed costs the API server a short answer only.
    """

    def __init__(self) -> None:
        self._answers: dict[str, tuple[str, _Kinds]] = {}
        """ETag, and what was read, by path."""

    async def ask(
        self, credentials: ApiServerCredentials
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The cluster-scoped ones, and the others, both as ``resource.group``.

        Of an API server that is older, or that answers something else, both are empty.

        Raises:
            ApiServerUnreachable: it cannot be asked.
        """
        found: _Kinds = {True: set(), False: set()}
        for target in ("/api", "/apis"):
            known = await self._look(credentials, target)
            if known is None:
                return (), ()
            for namespaced, kinds in known.items():
                found[namespaced] |= kinds
        if max(map(len, found.values())) > MAX_KINDS:
            return (), ()
        return tuple(sorted(found[False])), tuple(sorted(found[True]))

    async def _look(self, credentials: ApiServerCredentials, target: str) -> _Kinds | None:
        etag, known = self._answers.get(target, ("", None))
        headers = {"Accept": _AGGREGATED_DISCOVERY}
        if etag:
            headers["If-None-Match"] = etag
        answer = await _ask(credentials, "GET", target, b"", headers)
        if answer.status == _NOT_MODIFIED and known is not None:
            return known
        self._answers.pop(target, None)
        if answer.status != _OK:
            return {True: set(), False: set()}
        found = _read(answer.body)
        if found is not None:
            self._answers[target] = answer.headers.get("etag", ""), found
        return found


def _read(content: bytes) -> _Kinds | None:
    """What an answer says; None where it is no aggregated discovery."""
    found: _Kinds = {True: set(), False: set()}
    try:
        for group in orjson.loads(content)["items"]:
            _collect(group, found)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    return found


def _collect(group: dict[str, Any], found: _Kinds) -> None:
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
