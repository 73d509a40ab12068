"""Keeps the agent's identity in a Secret of the cluster that the agent runs in.

Made by ``mk8s_agent.main`` in a pod, whose disk ends with it. The Secret exists already: the
manifest creates it empty, and the agent may get and patch this one and no other. So it needs no
right to create Secrets, which RBAC could not limit to a name.
"""

import base64

import orjson

from mk8s_agent.apiserver.own_requests import ApiServerUnreachable, request_as_agent
from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
)
from mk8s_agent.identity.store import IDENTITY_FILE, AgentIdentity, IdentityError
from mk8s_agent.identity.store import decode_identity as decode
from mk8s_agent.identity.store import encode_identity as encode


class SecretStore:
    """An `mk8s_agent.identity.store.IdentityStore`."""

    def __init__(self, credentials: ApiServerCredentials, namespace: str, name: str) -> None:
        self._credentials = credentials
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        self.location = f"Secret {namespace}/{name}"

    async def load(self) -> AgentIdentity | None:
        """Read the Secret; an empty one holds no identity."""
        document = await self._call("GET")
        values = document.get("data")
        encoded = values.get(IDENTITY_FILE) if isinstance(values, dict) else None
        if not encoded:
            return None
        try:
            content = base64.b64decode(encoded, validate=True)
        except (ValueError, TypeError):
            content = b""
        return decode(content, self.location)

    async def save(self, identity: AgentIdentity) -> None:
        """Replace the one key of the Secret."""
        content = base64.b64encode(encode(identity)).decode()
        await self._call("PATCH", body=orjson.dumps({"data": {IDENTITY_FILE: content}}))

    async def check_writable(self) -> None:
        """Send a patch that changes nothing, as a dry run."""
        await self._call("PATCH", "?dryRun=All", b"{}")

    async def _call(self, method: str, query: str = "", body: bytes = b"") -> dict[str, object]:
        target = self._path + query
        try:
            status, content = await request_as_agent(self._credentials, method, target, body)
            document = orjson.loads(content) if status == 200 else None
        except (ApiServerUnreachable, orjson.JSONDecodeError) as error:
            raise IdentityError(f"cannot use {self.location}: {error}") from error
        if not isinstance(document, dict):
            raise IdentityError(
                f"the API server answered {status} for {self.location}: it must exist, and the "
                "agent may get and patch it; see deploy/kubernetes/agent.yaml"
            )
        return document
