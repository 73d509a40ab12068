"""The OpenAPI 3.1 document, made from the table of endpoints and the models of their bodies.

`application` serves it at /openapi.json. As it is made from what is served, it cannot describe
anything else; `examples` adds what a reader may copy, `openapi_operations` describes an endpoint.
"""

from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from mk8s_proxy.api.endpoint import Endpoint
from mk8s_proxy.api.errors import REASONS, ApiError
from mk8s_proxy.api.examples import REQUEST_ID
from mk8s_proxy.api.openapi_operations import HTML, PAGE, Mode, References, describe
from mk8s_proxy.api.problem_schemas import MEDIA_TYPE, OAuthProblem, Problem
from mk8s_proxy.api.schemas import Model

_REFERENCE = "#/components/schemas/{model}"

_HEADERS: dict[str, Any] = {
    "X-Request-Id": {
        "description": "names this request in central's log and audit",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    },
    "ETag": {
        "description": "names this state of what was asked for, for If-Match and If-None-Match",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "seconds until it is worth to try again",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"required": True, "schema": {"type": "string"}},
    "Allow": {"required": True, "schema": {"type": "string"}},
}
_OF_REFUSALS = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
_TAGS = {
    "auth": "Logins and their tokens.",
    "logins": "Who is logged in, from where, by what; and their ends.",
    "delegations": "Logins that may do less than their owner.",
    "clusters": "Clusters and the join tokens of their agents.",
    "agents": "Agents by their certificates.",
    "users": "Who may log in, with what roles.",
    "roles": "What users may do on which clusters.",
    "groups": "Roles for many at once: groups of mk8s, and those that issuers name.",
    "federation": "Which tokens of CI services and clusters let jobs in.",
    "rbac": "All roles, users and groups at once, as in a policy file.",
    "keys": "Signing keys of access tokens.",
    "ca": "The certificate authorities of central and of its agents.",
    "locks": "What is shut for now, whoever asks.",
    "tokens": "Service tokens, which jobs show instead of a login.",
    "audit": "Who did what.",
    "join": "The admission of agents.",
}


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """Describe the endpoints, but for the server at which they are.

    Args:
        endpoints: What is served.
        version: Of mk8s.
    """
    references, schemas = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        described = describe(endpoint, references)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mk8s management API",
            "version": version,
            "description": "Logins, clusters, users, roles and audit of mk8s-central.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": _HEADERS,
            "responses": _refusals(paths),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "`token` of POST /auth/login, not one bound to a cluster",
                }
            },
        },
    }


_PROBLEMS = (Problem, OAuthProblem)


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[References, dict[str, Any]]:
    """A reference for each model, as it is sent or answered, and what they lead to."""
    models: set[tuple[type[Model], Mode]] = {(it, "serialization") for it in _PROBLEMS}
    for endpoint in (*endpoints, *(it.otherwise for it in endpoints if it.otherwise)):
        if endpoint.request:
            models.add((endpoint.request, "validation"))
        if endpoint.response:
            models.add((endpoint.response, "serialization"))
    ordered: list[tuple[type[Model], JsonSchemaMode]] = sorted(
        models, key=lambda it: (it[0].__name__, it[1])
    )
    references, definitions = models_json_schema(ordered, ref_template=_REFERENCE)
    found = {(model, mode): reference for (model, mode), reference in references.items()}
    return found, dict(definitions["$defs"])  # type: ignore[return-value]


def _refusals(paths: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What operations refer to, for programs and for people."""
    return {
        **{REASONS[code]: _refusal(code) for code in _codes(paths)},
        **{REASONS[code] + PAGE: _refusing_page(code) for code in _codes(paths, PAGE)},
    }


def _codes(paths: dict[str, dict[str, Any]], kind: str = "") -> list[int]:
    """The statuses of refusals of one kind that an operation names."""
    operations = [operation for item in paths.values() for operation in item.values()]
    named = [it for operation in operations for it in operation["responses"].items()]
    codes = {int(code) for code, it in named if int(code) >= 400}
    wanted = {f"#/components/responses/{REASONS[code]}{kind}": code for code in codes}
    return sorted({wanted[it["$ref"]] for _, it in named if it.get("$ref") in wanted})


def _refusing_page(code: int) -> dict[str, Any]:
    """What a person is told by a page, and a program as everywhere."""
    told = _refusal(code)
    return told | {"content": {HTML: {}} | told["content"]}


def _refusal(code: int) -> dict[str, Any]:
    names = ["X-Request-Id"] + ([_OF_REFUSALS[code]] if code in _OF_REFUSALS else [])
    if code == 422:
        error = ApiError.invalid("email", "must be an email address")
    else:
        error = ApiError(code, "what is wrong, and what to do")
    schema = {"anyOf": [{"$ref": _REFERENCE.format(model=it.__name__)} for it in _PROBLEMS]}
    example = error.body(f"urn:uuid:{REQUEST_ID}").model_dump(mode="json")
    return {
        "description": REASONS[code],
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
