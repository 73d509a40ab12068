"""Label and field selectors; used by lists, watches and deletecollection in `objects`."""

import re
from collections.abc import Callable
from typing import Any

from mk8s_cli.demo_api.status import ApiError

Document = dict[str, Any]
Test = Callable[[Document], bool]
SET_TERM = re.compile(r"^\s*([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)\s*$")
EQUAL_TERM = re.compile(r"^\s*([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)\s*$")
EXISTS_TERM = re.compile(r"^\s*(!?)\s*([\w./-]+)\s*$")
DEFAULTS = {"spec.unschedulable": "false", "status.phase": ""}


def label_selector(text: str) -> list[Test]:
    """Tests on the labels of an object; raises 400 for what does not parse."""
    terms = re.split(r",(?![^(]*\))", text) if text else []
    return [_label_term(term) for term in terms]


def _label_term(term: str) -> Test:
    if match := SET_TERM.match(term):
        key, word, values = match.groups()
        wanted = {value.strip() for value in values.split(",")}
        return lambda labels: (labels.get(key) in wanted) == (word == "in")
    if match := EQUAL_TERM.match(term):
        key, word, value = match.groups()
        return lambda labels: (labels.get(key) == value) == (word != "!=")
    if match := EXISTS_TERM.match(term):
        negated, key = match.groups()
        return lambda labels: (key in labels) != bool(negated)
    raise ApiError(400, f"unable to parse requirement: {term!r}")


def field_selector(text: str) -> list[Test]:
    """Tests on fields of an object by dotted path; raises 400 for what does not parse."""
    found: list[Test] = []
    for term in text.split(",") if text else []:
        match = re.match(r"^\s*([\w.\[\]]+)\s*(==|=|!=)(.*)$", term)
        if match is None:
            raise ApiError(400, f"invalid field selector: {term!r}")
        path, word, value = match.groups()
        found.append(_field_term(path, word != "!=", value.strip()))
    return found


def _field_term(path: str, wanted: bool, value: str) -> Test:
    return lambda item: (_field(item, path) == value) == wanted


def _field(item: Any, path: str) -> str:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    if isinstance(item, bool):
        return str(item).lower()
    return DEFAULTS.get(path, "") if item is None else str(item)


def selector(labels: str, fields: str) -> Test:
    """One test for both selectors of a request."""
    label_tests, field_tests = label_selector(labels), field_selector(fields)

    def matches(item: Document) -> bool:
        own = item["metadata"].get("labels") or {}
        return all(test(own) for test in label_tests) and all(test(item) for test in field_tests)

    return matches
