"""One parsed request for a resource, as all handlers get it."""

import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import media, protobuf
from mk8s_cli.demo_api.catalogue import Kind
from mk8s_cli.demo_api.objects import ApiError, Document, invalid
from mk8s_cli.demo_api.store import Store

USER: web.RequestKey[Document] = web.RequestKey("user", Document)
"""Who is asking, after impersonation, in the form of authentication.k8s.io."""
WARNINGS: web.RequestKey[list[str]] = web.RequestKey("warnings", list)
"""What the client is told beside the answer."""
TOKEN: web.AppKey[str] = web.AppKey("token", str)
"""The bearer token of the server."""
SHOWN_AS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
"""What objects can be turned into (meta.k8s.io)."""
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
OPTIONS = {
    "POST": "CreateOptions",
    "PUT": "UpdateOptions",
    "PATCH": "PatchOptions",
    "DELETE": "DeleteOptions",
}
APPLY = ("application/apply-patch+yaml", "application/apply-patch+cbor")


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
        """Whether nothing may be stored; raises 422 for a value that is unknown."""
        asked = self.request.query.getall("dryRun", [])
        if {*asked} - {"All", ""}:
            words = f'Unsupported value: {json.dumps(asked)}: supported values: "All"'
            raise self.invalid_option("dryRun", words)
        return "All" in asked

    @property
    def is_apply(self) -> bool:
        """Whether this is a server-side apply."""
        return self.request.method == "PATCH" and media.media_of(self.request) in APPLY

    def invalid_option(self, name: str, words: str) -> ApiError:
        """422 for a query parameter."""
        options = OPTIONS.get(self.request.method, "Options")
        return invalid(options, "meta.k8s.io", "", name, "FieldValueNotSupported", words)

    def flag(self, name: str) -> bool:
        """A boolean query parameter: whatever is not plainly false, as apimachinery reads it."""
        return self.request.query.get(name, "false").lower() not in {"0", "false"}

    def number(self, name: str) -> int:
        """A numeric query parameter, 0 when absent; raises 400 for anything else."""
        text = self.request.query.get(name) or "0"
        if not text.isdecimal():
            raise ApiError(400, f"Invalid value: {text!r}: {name} is a whole number")
        return int(text)

    def form(self, *, watch: bool = False) -> media.Form:
        """How objects are wanted; raises 406."""
        served = tuple(media.STREAMED) if watch else media.SERVED
        return media.accepted(self.request.headers.get("Accept", ""), SHOWN_AS, served)

    def answer(self, document: Document, status: int = 200) -> web.Response:
        """The document as the answer, in the form that the client accepts; raises 406."""
        response = media.answer(self.request, document, self.form(), status)
        for words in self.request.get(WARNINGS, ()):
            response.headers.add("Warning", f"299 - {json.dumps(words)}")
        return response

    def current(self) -> Document:
        """The object that the path names; raises 404."""
        return self.store.get(self.kind.resource, (self.namespace, self.name))

    async def body(self) -> Any:
        """The body, from any form that is read; None without one; raises 400 and 415."""
        raw, found = await self.request.read(), media.media_of(self.request)
        if self.request.method != "PATCH" and (raw or self.request.method != "DELETE"):
            if found not in media.READ:
                raise media.unsupported(media.READ)
        elif self.request.method == "PATCH" and found not in (known := self._patches()):
            raise media.unsupported(known)
        if not raw:
            return None
        return protobuf.decode(raw) if found == media.PROTOBUF else media.decode(raw, found)

    def _patches(self) -> tuple[str, ...]:
        """The types of patches that this kind takes."""
        strategic = () if self.kind.is_custom else (STRATEGIC_PATCH,)
        return (JSON_PATCH, MERGE_PATCH, *strategic, *APPLY)
