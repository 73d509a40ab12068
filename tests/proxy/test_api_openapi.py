"""The OpenAPI document says what is served, and what is served is what it says."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest

from mk8s_proxy.api.application import ENDPOINTS
from mk8s_proxy.api.endpoint import Access
from mk8s_proxy.api.examples import EXAMPLES
from mk8s_proxy.db.engine import Database
from tests.support.management_api import PASSWORD, PUBLIC_URL, Central

METHODS = {"get", "put", "post", "delete"}


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    central = await Central.start(sqlite_database, tmp_path)
    yield central
    await central.close()


@pytest.fixture
async def document(central: Central) -> Any:
    answer = await central.call("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method, path, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_it_is_openapi_3_1(document: Any) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]
    assert document["servers"] == [{"url": PUBLIC_URL}]


async def test_it_is_valid(document: Any) -> None:
    openapi_spec_validator.validate(document)


def test_examples_are_what_they_are_examples_of() -> None:
    for model, example in EXAMPLES.items():
        model.model_validate_json(json.dumps(example), strict=True)
    served = [*ENDPOINTS, *(e.otherwise for e in ENDPOINTS if e.otherwise)]
    shown = {model for e in served for model in (e.request, e.response) if model}
    assert EXAMPLES.keys() <= shown


async def test_every_operation_says_what_may_go_wrong(document: Any) -> None:
    for method, path, operation in operations(document):
        responses = operation["responses"]
        assert set(operation["tags"]) <= {tag["name"] for tag in document["tags"]}
        assert {"405", "429", "500"} <= responses.keys(), path
        assert ("401" in responses) or not operation["security"], path
        assert ("404" in responses) or "{" not in path, path
        assert ("304" in responses) is (method == "get"), path
        for code in responses:
            if int(code) >= 400:
                name = responses[code]["$ref"].rsplit("/")[-1]
                response = document["components"]["responses"][name]
                assert "application/problem+json" in response["content"]


async def test_what_can_be_changed_conditionally_says_so(document: Any) -> None:
    found = {
        f"{method} {path}"
        for method, path, operation in operations(document)
        if any(it["name"] == "If-Match" for it in operation.get("parameters", ()))
    }
    assert found >= {
        "put /users/{id}/roles",
        "delete /users/{id}",
        "put /clusters/{id}/labels",
        "delete /clusters/{id}",
        "put /roles/{name}",
        "delete /roles/{name}",
        "post /rbac",
    }


async def test_it_has_every_endpoint_and_no_other(document: Any) -> None:
    described = {(method, path) for method, path, _ in operations(document)}
    assert described == {(e.method.lower(), e.path) for e in ENDPOINTS}


async def test_the_router_serves_what_it_has(central: Central, document: Any) -> None:
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in central.client.app.router.routes()
        if route.resource is not None
    }
    described = {(method, path) for method, path, _ in operations(document)}
    assert routes == described


async def test_all_references_lead_somewhere_and_all_schemas_are_used(document: Any) -> None:
    parts = ("schemas", "headers", "responses")
    names = {f"#/components/{it}/{name}" for it in parts for name in document["components"][it]}
    assert set(references(document)) == names


async def test_operation_ids_are_unique(document: Any) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in ids)


async def test_variables_of_paths_are_parameters(document: Any) -> None:
    for _, path, operation in operations(document):
        parameters = [it for it in operation.get("parameters", []) if it["in"] == "path"]
        names = [parameter["name"] for parameter in parameters]
        assert names == re.findall(r"\{(\w+)\}", path)


async def test_public_endpoints_are_few_and_said_to_be(document: Any) -> None:
    public = {path for _, path, operation in operations(document) if not operation["security"]}
    assert public == {
        "/auth/login",
        "/auth/refresh",
        "/auth/logout",
        "/auth/password",
        "/auth/methods",
        "/auth/sso/start",
        "/auth/sso/callback/{issuer}",
        "/auth/sso/token",
        "/auth/device",
        "/auth/device/answer",
        "/auth/device/token",
        "/.well-known/jwks.json",
        "/join",
        "/ca.pem",
        "/openapi.json",
    }
    assert public == {e.path for e in ENDPOINTS if e.access is Access.PUBLIC}


async def test_unknown_fields_are_refused_by_the_schemas_too(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["additionalProperties"] is False, name


def check(schema: Any, value: Any, document: Any) -> None:
    """Enough of JSON Schema for flat answers: references, required and known properties."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    if schema.get("type") == "array":
        for item in value:
            check(schema["items"], item, document)
    if schema.get("type") == "object" and "properties" in schema:
        assert set(schema.get("required", ())) <= value.keys() <= schema["properties"].keys()
        for name, inner in value.items():
            check(schema["properties"][name], inner, document)


async def test_answers_are_as_described(central: Central, document: Any) -> None:
    admin = await central.admin()
    body = {"email": "dev@example.com", "password": PASSWORD}
    calls = [
        ("POST", "/auth/login", "/auth/login", body),
        ("GET", "/auth/whoami", "/auth/whoami", None),
        ("GET", "/.well-known/jwks.json", "/.well-known/jwks.json", None),
        ("POST", "/clusters", "/clusters", {"name": "dev-1", "labels": {"a": "b"}}),
        ("GET", "/clusters", "/clusters", None),
        ("POST", "/clusters/{id}/join-token", "/clusters/dev-1/join-token", None),
        ("GET", "/clusters/{id}/permissions", "/clusters/dev-1/permissions", None),
        ("GET", "/users", "/users", None),
        ("GET", "/roles", "/roles", None),
        ("GET", "/users", "/users/", None),
        ("POST", "/users", "/users", {"email": "bad"}),
        ("DELETE", "/users/{id}", "/users/nobody", None),
    ]
    for method, template, path, sent in calls:
        answer = await central.call(method, path, sent, token=admin)
        operation = document["paths"][template][method.lower()]
        described = operation["responses"].get(str(answer.status))
        if described and "$ref" in described:
            name = described["$ref"].rsplit("/")[-1]
            described = document["components"]["responses"][name]
        if path.endswith("/"):
            assert answer.status == 404
            continue
        assert described, f"{method} {path} gave {answer.status}"
        check(described["content"][answer.headers["Content-Type"]]["schema"], answer.json, document)


async def test_it_holds_nothing_secret(document: Any) -> None:
    text = json.dumps(document)
    assert "PRIVATE" not in text
    assert "sqlite" not in text
