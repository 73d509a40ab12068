"""Where mk8s and Kubernetes read a request differently: nowhere, or this is a hole.

Only what mk8s would forward is compared. What it forwards changed (filtered lists, the parts of a
filtered deletecollection) is compared as it is forwarded.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mk8s_proxy.answers.filtering import delete_options
from mk8s_proxy.answers.filtering.continue_token import TokenExpired, TokenSeal
from mk8s_proxy.answers.filtering.request import MINIMUM_PAGE, filtered_target
from mk8s_proxy.kube.request_info import RequestInfo, parse_request_info
from mk8s_proxy.kube.request_target import RequestTarget, TargetRefusal, parse_target
from mk8s_proxy.kube.status import StatusError
from tests.oracle.process import Oracle, Reading

_SEAL = TokenSeal(b"k" * 32)
_SELECTING = ("labelSelector", "fieldSelector", "shardSelector")
_SAME_IN_LISTS = (
    "watch", "timeoutSeconds", "resourceVersion", "resourceVersionMatch", "shardSelector",
    "sendInitialEvents", "allowWatchBookmarks", "labelSelector", "fieldSelector",
)  # fmt: skip


@dataclass
class Forwarded:
    """One request line as mk8s reads it, and the lines that it sends on for it."""

    method: bytes
    target: RequestTarget
    info: RequestInfo
    listed: bytes = b""
    """The target of the filtered list."""
    selected: bytes = b""
    """The target of the list for a filtered deletecollection."""
    options: dict[str, Any] | None = None
    """The DeleteOptions that a filtered deletecollection asks with."""
    refused: set[str] = field(default_factory=set)


def forwarded(method: bytes, raw: bytes) -> Forwarded | None:
    """What mk8s makes of a request line; None where it refuses it."""
    try:
        target = parse_target(method, raw)
        info = parse_request_info(method, target)
    except TargetRefusal:
        return None
    found = Forwarded(method, target, info)
    if info.verb in ("list", "watch"):
        try:
            found.listed = filtered_target(raw, _SEAL, b"").raw
        except (StatusError, TokenExpired):
            found.refused.add("list")
    if info.verb == "deletecollection":
        _delete(found)
    return found


def _delete(found: Forwarded) -> None:
    parameters = delete_options.read_parameters(found.target.query)
    try:
        delete_options.check_whole(parameters)
        found.options = dict(delete_options.read_options(b"", b"", parameters))
    except StatusError:
        found.refused.add("deletecollection")
        return
    path = found.target.raw.partition(b"?")[0]
    query = delete_options.list_query(parameters, "", table=False)
    found.selected = path + b"?" + query.encode()


def divergences(oracle: Oracle, lines: list[tuple[bytes, bytes]]) -> tuple[int, list[str]]:
    """How many of the lines mk8s forwards, and a sentence for each that is read differently."""
    ours = [one for method, raw in lines if (one := forwarded(method, raw)) is not None]
    questions = []
    for one in ours:
        questions.append(("request", one.method, one.target.raw))
        if one.listed:
            questions.append(("request", one.method, one.listed))
        if one.selected:
            questions.append(("request", b"GET", one.selected))
    answers = iter(oracle.ask(questions))
    found = []
    for one in ours:
        line = f"{one.method!r} {one.target.raw[:300]!r}"
        found += [f"{line}: {difference}" for difference in _differences(one, answers)]
    return len(ours), found


def _differences(one: Forwarded, answers: Iterator[Reading]) -> Iterator[str]:
    theirs = next(answers)
    listed = next(answers) if one.listed else None
    selected = next(answers) if one.selected else None
    if theirs["error"]:
        yield f"Kubernetes cannot read it: {theirs['error']}"
        return
    yield from read_otherwise(one.info, theirs)
    if listed is not None and theirs["list"] is not None:
        yield from _filtered_list(theirs["list"], listed["list"])
    if selected is not None:
        yield from _selected(one, theirs, selected)


def read_otherwise(info: RequestInfo, theirs: Reading) -> Iterator[str]:
    pairs: list[tuple[str, object, object]] = [
        ("resource_request", info.is_resource_request, theirs["resource_request"]),
        ("verb", info.verb, theirs["verb"]),
        ("path", info.path, _text(theirs["path"])),
    ]
    if info.is_resource_request:
        names = ("api_group", "api_version", "namespace", "resource", "subresource", "name",
                 "field_selector", "label_selector")  # fmt: skip
        pairs += [(name, getattr(info, name), _text(theirs[name])) for name in names]
    for name, mine, other in pairs:
        if mine != other:
            yield f"{name} is {mine!r} here and {other!r} there"


def _filtered_list(asked: Reading, sent: Reading) -> Iterator[str]:
    """The list that is asked for is the client's, but for pages and rows that would tell more."""
    if asked["error"] or sent["error"]:
        if bool(asked["error"]) != bool(sent["error"]):
            yield f"asked {asked['error']!r}, sent {sent['error']!r}"
        return
    for name in _SAME_IN_LISTS:
        if asked[name] != sent[name]:
            yield f"{name} was {asked[name]!r} and is sent as {sent[name]!r}"
    if 0 < sent["limit"] < MINIMUM_PAGE:
        yield f"a page of {sent['limit']} objects tells about hidden ones"
    if max(asked["limit"], 0) and sent["limit"] != max(asked["limit"], MINIMUM_PAGE):
        yield f"limit was {asked['limit']} and is sent as {sent['limit']}"
    if asked["limit"] <= 0 and sent["limit"] > 0:
        yield "a limit that was not asked for"
    if sent["includeObject"] == b"None":
        yield "rows without objects cannot be judged"
    if sent["continue"]:
        yield "a page token that mk8s never gave"


def _selected(one: Forwarded, theirs: Reading, selected: Reading) -> Iterator[str]:
    """A filtered deletion deletes what was selected, with the options that were asked for."""
    asked, sent = theirs["list"], selected["list"]
    if theirs["delete_error"] or asked["error"]:
        if not asked["error"] or not (selected["error"] or sent["error"]):
            yield f"Kubernetes refuses it: {theirs['delete_error'] or asked['error']}"
        return
    if sent["error"]:
        yield f"the list is refused: {sent['error']}"
        return
    for name in _SELECTING:
        if asked[name] != sent[name]:
            yield f"{name} was {asked[name]!r} and is listed by {sent[name]!r}"
    mine = {
        key: value
        for key, value in (one.options or {}).items()
        if key not in ("kind", "apiVersion") and value is not None
    }
    options = json.dumps(theirs["delete"] or {}, sort_keys=True)
    if json.dumps(mine, sort_keys=True) != options:
        yield f"options are {mine} here and {options} there"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
