"""Bodies, forms and queries: read as the models of an endpoint, written with their ETags."""

from typing import TypeVar
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from pydantic import ValidationError

from mk8s_proxy.api import conditions
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model, Page

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
LONGEST_FORM = 64 << 10
MOST_FIELDS = 32
NO_STORE = "no-store"
"""Cache-Control of what says nothing else."""
INVALID_REQUEST, UNSUPPORTED_GRANT = "invalid_request", "unsupported_grant_type"
"""RFC 6749 section 5.2."""

_ModelType = TypeVar("_ModelType", bound=Model)


async def read_body(request: web.Request, kind: type[_ModelType]) -> _ModelType:
    """Parse a JSON body.

    A form's content type is refused, so that no other site's page can post here (CSRF).

    Raises:
        ApiError: Not JSON, or not as the model says.
    """
    if request.content_type != JSON:
        raise ApiError(415, "send the body as application/json")
    try:
        return kind.model_validate_json(await request.read(), strict=True)
    except ValidationError as error:
        shown = error.errors(include_url=False, include_context=False, include_input=False)
        raise ApiError.from_validation(shown) from None


async def read_form(request: web.Request, kind: type[_ModelType]) -> _ModelType:
    """Parse the form of a program (RFC 6749): each field at most once, as the model says.

    Only for what a browser could not be made to send: the form brings the credential itself.

    Raises:
        ApiError: No such form.
    """
    if (request.content_length or 0) > LONGEST_FORM:
        raise ApiError(413, f"the form is too large: at most {LONGEST_FORM >> 10} KiB")
    body = await request.read()
    try:
        if len(body) > LONGEST_FORM:
            raise ApiError(413, f"the form is too large: at most {LONGEST_FORM >> 10} KiB")
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError:
        raise ApiError(400, "the body is no form", word=INVALID_REQUEST) from None
    if len(dict(pairs)) < len(pairs):
        raise ApiError(400, "give each field of the form once", word=INVALID_REQUEST)
    try:
        return kind.model_validate(dict(pairs))
    except ValidationError as error:
        shown = error.errors(include_url=False, include_context=False, include_input=False)
        raise _refused_form(ApiError.from_validation(shown), dict(pairs)) from None


def _refused_form(refusal: ApiError, given: dict[str, str]) -> ApiError:
    """RFC 6749 section 5.2: whatever a form lacks is a 400, and a grant that is another one, which
    is named as such, is another word."""
    is_grant = "grant_type" in given and any(it.field == "grant_type" for it in refusal.fields)
    word = UNSUPPORTED_GRANT if is_grant else INVALID_REQUEST
    return ApiError(400, refusal.message, fields=refusal.fields, word=word)


def parse_query(request: web.Request, kind: type[_ModelType]) -> _ModelType:
    """Parse the parameters of a request's target.

    Raises:
        ApiError: One comes twice, or not as the model says.
    """
    given: dict[str, str] = {}
    for name, value in request.query.items():
        if name in given:
            raise ApiError.invalid(name, "give it once")
        given[name] = value
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        shown = error.errors(include_url=False, include_context=False, include_input=False)
        raise ApiError.from_validation(shown) from None


def respond(
    result: Model | None, status: int = 200, media_type: str = "application/json"
) -> web.Response:
    """Write a model as JSON; None is an empty 204."""
    if result is None:
        return web.Response(status=204)
    return web.Response(
        status=status,
        body=result.model_dump_json().encode(),
        headers={hdrs.CONTENT_TYPE: media_type},
    )


def tagged(request: web.Request, response: web.Response, revision: str = "") -> web.Response:
    """Give what can be asked for again its ETag; leave its body out where the client has it."""
    is_get = request.method == hdrs.METH_GET
    if not isinstance(response.body, bytes) or not (is_get or revision):
        return response
    etag = conditions.tag(response.body, revision)
    if is_get and conditions.is_known(request, etag):
        kept = {hdrs.CACHE_CONTROL: response.headers.get(hdrs.CACHE_CONTROL, NO_STORE)}
        response = web.Response(status=304, headers=kept)
    response.headers[hdrs.ETAG] = etag
    return response


def respond_older(page: Page) -> web.Response:
    """Write a list as it was before: its items are called so."""
    document = page.model_dump(mode="json")
    (name,) = (name for name, value in document.items() if isinstance(value, list))
    document["items"] = document.pop(name)
    return web.json_response(document)
