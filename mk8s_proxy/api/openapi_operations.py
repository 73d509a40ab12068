"""An endpoint as an operation of the OpenAPI document: parameters, body, answers, refusals."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, Literal

from mk8s_proxy.api import conditions
from mk8s_proxy.api.endpoint import Access, Audit, Endpoint
from mk8s_proxy.api.errors import REASONS
from mk8s_proxy.api.examples import EXAMPLES, PATH_EXAMPLES, QUERY_EXAMPLES
from mk8s_proxy.api.list_schemas import PageQuery
from mk8s_proxy.api.schemas import Model

Mode = Literal["validation", "serialization"]
References = Mapping[tuple[type[Model], Mode], Any]
"""Where the schema of a model is, as it is sent or answered."""

HTML = "text/html"
"""Of endpoints for browsers: their refusals may be pages, too."""
PAGE = "Page"
"""How the names of these refusals end."""
_JSON = "application/json"
_VARIABLE = re.compile(r"\{(\w+)\}")
_TAGS = {"ca.pem": "join", ".well-known": "keys", "openapi.json": "auth"}
"""Paths whose first segment is no tag."""
_MEANINGS = {
    "/users/{id}": "the user's id, email or name",
    "/clusters/{id}": "the cluster's name or id",
    "/agents/{id}": "the serial of any of the agent's certificates",
    "/roles/{name}": "the role's name",
    "/groups/{name}": "the group's name",
    "/federation/rules": "the rule's name",
    "/auth/sso": "the issuer's name",
    "/keys/{id}": "the key's id",
    "/locks/{id}": "the lock's id",
    "/audit/{id}": "the request's Audit-ID",
    "/logins/{id}": "the login's id",
    "/tokens/{id}": "the service token's id or name",
}
"""Of the variable part of a path."""


def describe(endpoint: Endpoint, references: References) -> dict[str, Any]:
    """Describe one endpoint."""
    head = endpoint.path.split("/")[1]
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "description": _description(endpoint),
        "tags": [_TAGS.get(head, head)],
        "security": [] if endpoint.access is Access.PUBLIC else [{"bearer": []}],
        "responses": _responses(endpoint, references),
    }
    parameters = [
        *_path_parameters(endpoint), *_query_parameters(endpoint), *_header_parameters(endpoint)
    ]  # fmt: skip
    if parameters:
        operation["parameters"] = parameters
    if endpoint.request is not None:
        content = _content(endpoint.request, references[endpoint.request, "validation"])
        operation["requestBody"] = {"required": True, "content": content}
    if endpoint.otherwise is not None:
        _add_other(operation, endpoint.otherwise, references)
    return operation


def _add_other(operation: dict[str, Any], other: Endpoint, references: References) -> None:
    """What a request of another media type asks for, and what it gets."""
    assert other.request is not None
    assert other.response is not None
    operation["description"] += f"\n\n{other.takes}: {_description(other)}"
    if other.access is Access.PUBLIC:
        operation["security"] = [*operation["security"], {}]
    (content,) = _content(other.request, references[other.request, "validation"]).values()
    operation["requestBody"]["content"][other.takes] = content
    answer = operation["responses"]["200"]["content"][_JSON]
    told = references[other.response, "serialization"]
    answer["schema"] = {"anyOf": [answer["schema"], told]}
    operation["responses"] = _responses(other, references) | operation["responses"]


def _operation_id(endpoint: Endpoint) -> str:
    head, *rest = endpoint.handler.__name__.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _description(endpoint: Endpoint) -> str:
    text = inspect.getdoc(endpoint.handler) or endpoint.summary
    if endpoint.access is Access.ADMIN:
        text += "\n\nFor users with the role admin."
    return text


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = _VARIABLE.findall(endpoint.path)
    if not names:
        return []
    place = "/".join(endpoint.path.split("/")[:3])
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _MEANINGS[place],
            "schema": {"type": "string", "minLength": 1},
            "example": PATH_EXAMPLES[place],
        }
        for name in names
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    """One for each field of the model; absent and null are the same behind a "?"."""
    if endpoint.query is None:
        return []
    schema = endpoint.query.model_json_schema()
    parameters = []
    for name, field in schema["properties"].items():
        kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
        kind = {key: value for key, value in kinds[0].items() if key != "title"}
        inner = kind.pop("description", "")
        parameter: dict[str, Any] = {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "schema": kind,
        }
        if text := field.get("description", inner):
            parameter["description"] = text
        if name in QUERY_EXAMPLES:
            parameter["example"] = QUERY_EXAMPLES[name]
        parameters.append(parameter)
    return parameters


def _header_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    meanings = {}
    if endpoint.conditional:
        meanings["If-Match"] = "ETags of what may be changed; anything else there is a 412"
    if _is_tagged(endpoint):
        meanings["If-None-Match"] = "ETags of what the client has; that is not sent again"
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": text,
            "schema": {"type": "string", "pattern": conditions.PATTERN},
        }
        for name, text in meanings.items()
    ]


def _is_tagged(endpoint: Endpoint) -> bool:
    return endpoint.method == "GET"


def _responses(endpoint: Endpoint, references: References) -> dict[str, Any]:
    names = ["X-Request-Id"]
    if _is_tagged(endpoint):
        names.append("ETag")
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    success: dict[str, Any] = {"description": endpoint.summary, "headers": headers}
    if endpoint.response is not None:
        reference = references[endpoint.response, "serialization"]
        success["content"] = _content(endpoint.response, reference)
        if endpoint.streamed_as:
            success["content"][endpoint.streamed_as] = {"schema": {"type": "string"}}
    elif endpoint.status != 204:
        success["content"] = {endpoint.media_type: {}}
    responses = {str(endpoint.status): success}
    if _is_tagged(endpoint):
        responses["304"] = {"description": "the client has it already", "headers": headers}
    kind = PAGE if endpoint.media_type == HTML else ""
    for code in sorted(_refusals(endpoint)):
        responses[str(code)] = {"$ref": f"#/components/responses/{REASONS[code]}{kind}"}
    return responses


def _refusals(endpoint: Endpoint) -> set[int]:
    codes = {405, 429, 500, *endpoint.refusals}
    if endpoint.access is not Access.PUBLIC:
        codes |= {401, 503}
    if endpoint.access is not Access.PUBLIC and not endpoint.delegates:
        codes.add(403)
    if endpoint.request is not None:
        codes |= {400, 413, 415, 422}
    if endpoint.query is not None:
        codes.add(422)
        if issubclass(endpoint.query, PageQuery) or "cursor" in endpoint.query.model_fields:
            codes.add(400)
    if endpoint.conditional:
        codes |= {400, 412}
    if _is_tagged(endpoint):
        codes.add(400)
    if _VARIABLE.search(endpoint.path):
        codes.add(404)
    if endpoint.audit is not Audit.NOTHING:
        codes.add(503)
    return codes


def _content(model: type[Model], reference: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": reference}
    if model in EXAMPLES:
        content["example"] = EXAMPLES[model]
    return {_JSON: content}
