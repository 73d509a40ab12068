"""Label and field selectors; used by lists, watches and deletecollection in `reads`."""

import re
from collections.abc import Callable
from typing import Any

from mk8s_cli.demo_api.errors import ApiError
from mk8s_cli.demo_api.tables import dig

TERM = re.compile(
    r"\s*(?:(?P<member>[\w./-]+)\s+(?P<word>in|notin)\s*\((?P<values>[^)]*)\)"
    r"|(?P<equal>[\w./-]+)\s*(?P<sign>==|=|!=)(?P<value>[^=]*)"
    r"|(?P<negation>!?)\s*(?P<present>[\w./-]+))\s*"
)
UNSET = {"spec.unschedulable": False}
"""Fields that have a value when they are not set."""
Term = tuple[str, set[str] | None, bool]
"""Key, the values it may have (None: any), or with False may not."""


def selector(labels: str, fields: str) -> Callable[[dict[str, Any]], bool]:
    """The test of both selectors of a request; raises 400 for what does not parse."""
    label_terms = [_term(text) for text in re.split(r",(?![^(]*\))", labels) if labels]
    field_terms = [_term(text) for text in fields.split(",") if fields]
    if not all(values for _, values, _ in field_terms):
        raise ApiError(400, f"invalid field selector: {fields!r}")

    def matches(item: dict[str, Any]) -> bool:
        own = item["metadata"].get("labels") or {}
        pairs = [(own.get(term[0]), term) for term in label_terms]
        pairs += [(_text(dig(item, term[0], UNSET.get(term[0], ""))), term) for term in field_terms]
        return all(
            (value is not None if values is None else value in values) == wanted
            for value, (_, values, wanted) in pairs
        )

    return matches


def _term(text: str) -> Term:
    match = TERM.fullmatch(text)
    if match is None:
        raise ApiError(400, f"unable to parse requirement: {text!r}")
    found = match.groupdict()
    if found["member"]:
        values = {value.strip() for value in found["values"].split(",")}
        return found["member"], values, found["word"] == "in"
    if found["equal"]:
        return found["equal"], {found["value"].strip()}, found["sign"] != "!="
    return found["present"], None, not found["negation"]


def _text(value: Any) -> str:
    """A field as selectors write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
