"""The kinds of authentication.k8s.io and authorization.k8s.io: asked by POST, stored never."""

import hmac

from aiohttp import web

from mk8s_cli.demo_api.call import TOKEN, USER, Call
from mk8s_cli.demo_api.catalogue import data
from mk8s_cli.demo_api.objects import ApiError, Document, invalid, now
from mk8s_cli.demo_api.writes import placed

ADMIN = {"username": "mk8s-demo-admin", "groups": ["system:masters", "system:authenticated"]}
"""Who has the one token, if not as somebody else."""
ATTRIBUTES = {"resourceAttributes", "nonResourceAttributes"}


async def review(call: Call) -> web.StreamResponse:
    """POST of a review."""
    asked, kind = placed(call, await call.body()), call.kind.gvk["kind"]
    head = {"kind": kind, "apiVersion": call.kind.api_version, "metadata": {}}
    if kind == "SelfSubjectReview":
        meta = {"creationTimestamp": now()}
        return call.answer(
            {**head, "metadata": meta, "status": {"userInfo": call.request[USER]}}, 201
        )
    spec = asked.get("spec") or {}
    if kind == "TokenReview":
        status = _token_status(call, str(spec.get("token") or ""))
    else:
        status = data("defaults")["reviews"][kind]
    if kind.endswith("AccessReview") and len(ATTRIBUTES & spec.keys()) != 1:
        words = f"exactly one of {' or '.join(sorted(ATTRIBUTES))} must be specified"
        group = call.kind.gvk["group"]
        raise invalid("", group, "", "spec", "FieldValueInvalid", f"Invalid value: null: {words}")
    return call.answer({**head, "spec": spec, "status": status}, 201)


def _token_status(call: Call, token: str) -> Document:
    """Whose token it is; only one is known here."""
    if not token:
        raise ApiError(400, "token is required for TokenReview in authentication")
    if not hmac.compare_digest(token.encode(), call.request.app[TOKEN].encode()):
        return {"user": {}, "error": "invalid bearer token"}
    return {"authenticated": True, "user": ADMIN}
