"""Lists in pages: `limit` and `continue`; called by `reads`.

A continue token says where the next page begins, and the version that the first page had. The
pages are not a snapshot: they show what is there when they are asked for.
"""

import base64
import json

from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.objects import ApiError, Document
from mk8s_cli.demo_api.store import Key, key_of


def cut(call: Call, items: list[Document]) -> tuple[list[Document], Document]:
    """The page of the ordered `items` that a request wants, and the metadata of its list.

    Raises 400 for a token that is none of ours.
    """
    limit, token = call.number("limit"), call.request.query.get("continue", "")
    call.number("resourceVersion")  # what is there now is not older than any version
    version = str(call.store.version)
    if token:
        version, start = _read(token)
        items = [item for item in items if key_of(item) > start]
    page = items[:limit] if limit else items
    meta: Document = {"resourceVersion": version}
    if rest := len(items) - len(page):
        meta["continue"] = _token(version, key_of(page[-1]))
        if not call.request.query.keys() & {"labelSelector", "fieldSelector"}:
            meta["remainingItemCount"] = rest
    return page, meta


def _token(version: str, last: Key) -> str:
    raw = json.dumps([version, *last]).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read(token: str) -> tuple[str, Key]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token + "=="))
        return str(int(version)), (str(namespace), str(name))
    except (ValueError, TypeError) as error:
        raise ApiError(400, "continue key is not valid: it is not of this server") from error
