"""Settings that are lists of sections: each item becomes a frozen dataclass of its own.

Used by :mod:`mk8s_agent.wire.settings`. In the file they are lists of mappings, in the environment
the same in JSON. Every mistake of every item is told, each with its place.
"""

import difflib
import json
import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from mk8s_agent.wire.setting_values import Known, Unusable, UnusableItems, convert

MOST_ITEMS: Final = 10_000
"""Of one list; each setting has a limit of its own that makes sense."""


def known(entry: Field[Any], hint: Any, place: str, prefix: str) -> Known:
    """What one field of a model takes."""
    optional = get_origin(hint) in (Union, types.UnionType)
    kind = get_args(hint)[0] if optional else hint
    limits = entry.metadata
    least, most = limits.get("least"), limits.get("most")
    return Known(place + entry.name, kind, optional, least, most, prefix)


def item_type(kind: Any) -> type | None:
    """The dataclass that a list holds; None for a setting that is no list of sections."""
    if get_origin(kind) is not tuple:
        return None
    held = get_args(kind)[0]
    return held if isinstance(held, type) and is_dataclass(held) else None


def read_items(kind: type, value: object) -> tuple[object, ...]:
    """Make one dataclass of each item.

    Raises:
        UnusableItems: with every mistake, each beginning with its place behind the list's.
    """
    problems: list[str] = []
    listed = _listed(value)
    items = [_read_item(kind, it, f"[{place}]", problems) for place, it in enumerate(listed)]
    if problems:
        raise UnusableItems(problems)
    return tuple(items)


def _listed(value: object) -> list[object]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError):
            raise Unusable("must be a list in JSON") from None
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        raise Unusable("must be a list of mappings")
    return value


def _read_item(kind: Any, value: object, place: str, problems: list[str]) -> object:
    if not isinstance(value, dict):
        problems.append(f"{place}: must be a mapping of settings")
        return None
    hints, entries = get_type_hints(kind), {entry.name: entry for entry in fields(kind)}
    arguments: dict[str, object] = {}
    before = len(problems)
    for key, said in value.items():
        if key not in entries:
            near = difflib.get_close_matches(str(key), list(entries), n=1, cutoff=0.6)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            problems.append(f"{place}: unknown setting {json.dumps(str(key))}{hint}")
            continue
        field = known(entries[key], hints[key], "", "")
        arguments[key] = _read_field(field, said, f"{place}.{key}", problems)
    for name, entry in entries.items():
        missing = entry.default is MISSING and entry.default_factory is MISSING
        if missing and name not in value:
            problems.append(f"{place}: {name} is missing")
    return kind(**arguments) if len(problems) == before else None


def _read_field(field: Known, value: object, place: str, problems: list[str]) -> object:
    inner = item_type(field.kind)
    try:
        return convert(field, value) if inner is None else read_items(inner, value)
    except UnusableItems as error:
        problems += [f"{place}{line}" for line in error.problems]
    except Unusable as error:
        problems.append(f"{place}: {error}")
    return None
