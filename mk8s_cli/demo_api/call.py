"""One parsed request for a resource, as all handlers get it."""

import json
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from mk8s_cli.demo_api import protobuf
from mk8s_cli.demo_api.catalogue import Kind
from mk8s_cli.demo_api.objects import ApiError, Document
from mk8s_cli.demo_api.store import Store

USER: web.RequestKey[Document] = web.RequestKey("user", Document)
"""Who is asking, after impersonation, in the form of authentication.k8s.io."""
PROTOBUF = "application/vnd.kubernetes.protobuf"


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a resource."""

    store: Store
    request: web.Request
    kind: Kind
    namespace: str
    name: str
    subresource: str

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored."""
        return self.request.query.get("dryRun") == "All"

    def flag(self, name: str) -> bool:
        """A boolean query parameter."""
        return self.request.query.get(name, "").lower() in {"1", "true"}

    def number(self, name: str) -> int:
        """A numeric query parameter, 0 when absent; raises 400 for anything else."""
        text = self.request.query.get(name) or "0"
        if not text.isdecimal():
            raise ApiError(400, f"Invalid value: {text!r}: {name} is a whole number")
        return int(text)

    def form(self) -> str:
        """How objects are wanted: "", "Table", "PartialObjectMetadata(List)"; raises 406."""
        for entry in (self.request.headers.get("Accept") or "*/*").split(","):
            media, *parameters = (part.strip() for part in entry.split(";"))
            if media in {"application/json", "application/*", "*/*"}:
                return next((found[3:] for found in parameters if found.startswith("as=")), "")
        raise ApiError(406, "only JSON is served: send Accept: application/json")

    def current(self) -> Document:
        """The object that the path names; raises 404."""
        return self.store.get(self.kind.resource, (self.namespace, self.name))

    async def body(self) -> Any:
        """The body, from JSON, YAML or protobuf; None without one; raises 400 and 415."""
        raw, media = await self.request.read(), self.request.content_type
        if not raw:
            return None
        if media == PROTOBUF:
            return protobuf.decode(raw)
        if not (media.endswith(("json", "yaml")) or media == "application/octet-stream"):
            raise ApiError(415, f"the body of the request was in an unknown format: {media}")
        try:
            return yaml.safe_load(raw) if media.endswith("yaml") else json.loads(raw)
        except (ValueError, yaml.YAMLError) as error:
            raise ApiError(400, f"the body cannot be read: {error}") from error
