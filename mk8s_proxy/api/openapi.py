"""The OpenAPI 3.1 document, made from the table of endpoints and the models of their bodies.

`application` serves it at /openapi.json. As it is made from what is served, it cannot describe
anything else.
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from mk8s_proxy.api.endpoint import Access, Audit, Endpoint
from mk8s_proxy.api.errors import REASONS
from mk8s_proxy.api.problem_schemas import MEDIA_TYPE, Problem
from mk8s_proxy.api.schemas import Model

_VARIABLE = re.compile(r"\{(\w+)\}")
_REFERENCE = "#/components/schemas/{model}"


def document(endpoints: Sequence[Endpoint], server: str, version: str) -> dict[str, Any]:
    """Describe the endpoints.

    Args:
        endpoints: What is served.
        server: Central's public URL.
        version: Of mk8s.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mk8s management API",
            "version": version,
            "description": "Logins, clusters, users, roles and audit of mk8s-central.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "paths": paths,
        "components": {
            "schemas": _schemas(endpoints),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _schemas(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    models: set[type[Model]] = {Problem}
    for endpoint in endpoints:
        models |= {model for model in (endpoint.request, endpoint.response) if model}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template=_REFERENCE
    )
    return dict(definitions["$defs"])


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.path.split("/")[1].removeprefix(".")],
        "security": [] if endpoint.access is Access.PUBLIC else [{"bearer": []}],
        "responses": _responses(endpoint),
    }
    if endpoint.access is Access.ADMIN:
        operation["description"] = "For users with the role admin."
    parameters = [*_path_parameters(endpoint), *_query_parameters(endpoint)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.request is not None:
        operation["requestBody"] = {"required": True, "content": _content(endpoint.request)}
    return operation


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _VARIABLE.findall(endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    """One for each field of the model; absent and null are the same behind a "?"."""
    if endpoint.query is None:
        return []
    schema = endpoint.query.model_json_schema()
    required = schema.get("required", ())
    parameters = []
    for name, field in schema["properties"].items():
        kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
        kind = {key: value for key, value in kinds[0].items() if key != "title"}
        parameter = {"name": name, "in": "query", "required": name in required, "schema": kind}
        if "description" in field:
            parameter["description"] = field["description"]
        parameters.append(parameter)
    return parameters


def _operation_id(endpoint: Endpoint) -> str:
    name = getattr(endpoint.handler, "__name__", endpoint.path)
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    success: dict[str, Any] = {"description": endpoint.summary}
    if endpoint.response is not None:
        success["content"] = _content(endpoint.response)
    elif endpoint.status != 204:
        success["content"] = {endpoint.media_type: {}}
    responses = {str(endpoint.status): success}
    for code in sorted(_refusals(endpoint)):
        responses[str(code)] = {
            "description": REASONS[code],
            "content": _content(Problem, MEDIA_TYPE),
        }
    return responses


def _refusals(endpoint: Endpoint) -> set[int]:
    codes = {500, *endpoint.refusals}
    if endpoint.access is not Access.PUBLIC:
        codes |= {401, 503}
    if endpoint.access is Access.ADMIN:
        codes.add(403)
    if endpoint.request is not None:
        codes |= {400, 413, 415, 422}
    if endpoint.query is not None:
        codes.add(422)
    if endpoint.audit is not Audit.NOTHING:
        codes.add(503)
    return codes


def _content(model: type[Model], media_type: str = "application/json") -> dict[str, Any]:
    reference = _REFERENCE.format(model=model.__name__)
    return {media_type: {"schema": {"$ref": reference}}}
