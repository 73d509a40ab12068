"""get and list of any served resource, and its selectors; called by `server`."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aiohttp import web

from mk8s_cli.demo_api import pages, watches
from mk8s_cli.demo_api.call import Call
from mk8s_cli.demo_api.objects import ApiError, Document, dig
from mk8s_cli.demo_api.views import view

REQUIREMENT = re.compile(
    r"\s*(?P<negation>!?)\s*(?P<key>[\w./-]+)\s*"
    r"(?:(?P<sign>=|==|!=)(?P<value>[^=]*)|\s(?P<word>in|notin)\s*\((?P<values>[^)]*)\)\s*)?"
)
UNSET = {"spec.unschedulable": False}
"""Fields that have a value when they are not set."""


def selected(call: Call) -> list[Document]:
    """The objects of a collection that the selectors of the request match."""
    items = call.store.select(call.kind.resource, call.namespace)
    return list(filter(selector(call.request.query), items))


async def get(call: Call) -> web.StreamResponse:
    """GET of an object."""
    return call.answer(view(call, call.current()))


async def collection(call: Call) -> web.StreamResponse:
    """GET of a collection, or of the stream of its changes."""
    if call.flag("watch") and call.request.method == "GET":
        return await watches.watch(call, lambda: selected(call), selector(call.request.query))
    page, meta = pages.cut(call, selected(call))
    return call.answer(view(call, page, meta=meta))


def selector(query: Mapping[str, str]) -> Callable[[Document], bool]:
    """The test of the label and field selectors of a query; raises 400."""
    labels = [*_requirements(query.get("labelSelector", ""))]
    fields = [*_requirements(query.get("fieldSelector", ""))]
    if not all(values for _, values, _ in fields):
        raise ApiError(400, f"invalid field selector: {query['fieldSelector']!r}")

    def matches(item: Document) -> bool:
        own = item["metadata"].get("labels") or {}
        values = [own.get(key) for key, *_ in labels]
        values += [_text(dig(item, key, UNSET.get(key, ""))) for key, *_ in fields]
        return all(
            (value is not None if among is None else value in among) == wanted
            for value, (_, among, wanted) in zip(values, labels + fields, strict=True)
        )

    return matches


def _requirements(text: str) -> Iterator[tuple[str, set[str] | None, bool]]:
    """Key, the values it may have (None: any), or with False may not; raises 400."""
    for part in re.split(r",(?![^(]*\))", text) if text else ():
        found = REQUIREMENT.fullmatch(part)
        if found is None or (found["negation"] and (found["sign"] or found["word"])):
            raise ApiError(400, f"unable to parse requirement: {part!r}")
        listed = found["value"] if found["sign"] else found["values"]
        values = None if listed is None else {value.strip() for value in listed.split(",")}
        negative = found["negation"] or found["sign"] == "!=" or found["word"] == "notin"
        yield found["key"], values, not negative


def _text(value: Any) -> str:
    """A field as selectors write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
