"""Watches shortened event by event: what passes at once, and what never does."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_filtering_lists import SECRET, fed, in_shop, item, pieces_of

from mk8s_proxy.answers.filtering.json_values import Unfilterable
from mk8s_proxy.answers.filtering.objects import ObjectJudge
from mk8s_proxy.answers.filtering.watch_filter import WatchFilter

HIDDEN = item(SECRET, "bank", data=SECRET)
COLUMNS = [{"name": "Name", "type": "string"}]


def made(*, strip_rows: bool = False) -> WatchFilter:
    return WatchFilter(ObjectJudge(in_shop, strip_rows=strip_rows))


def event(kind: str, shown: object) -> bytes:
    return json.dumps({"type": kind, "object": shown}).encode() + b"\n"


def table(*objects: Any, columns: Any = None, **more: Any) -> dict[str, Any]:
    rows = [{"cells": [1], "object": one} for one in objects]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "4"},
            "columnDefinitions": columns, "rows": rows, **more}  # fmt: skip


def filtered(*pieces: bytes, strip_rows: bool = False) -> list[dict[str, Any]]:
    passed = b"".join(fed(made(strip_rows=strip_rows), pieces))
    assert SECRET.encode() not in passed
    return [json.loads(line) for line in passed.splitlines()]


def refused(data: bytes) -> None:
    passed: list[bytes] = []
    with pytest.raises(Unfilterable):
        passed.extend(fed(made(), (data[at : at + 1] for at in range(len(data)))))
    assert SECRET.encode() not in b"".join(passed)


kinds = st.sampled_from(["ADDED", "MODIFIED", "DELETED"])
documents = st.sampled_from(
    [item(), item("é\u2028 \\"), HIDDEN, table(item()), table(HIDDEN), table(item(), HIDDEN),
     table(HIDDEN, columns=COLUMNS), table(item(), columns=COLUMNS), table()]
)  # fmt: skip


@given(st.lists(st.tuples(kinds, documents), max_size=6), st.booleans(), st.booleans(),
       st.lists(st.integers(0, 5_000), max_size=9))  # fmt: skip
def test_any_events_cut_anywhere(
    events: list[tuple[str, dict[str, Any]]], spaced: bool, ascii_only: bool, cuts: list[int]
) -> None:
    written = [
        json.dumps({"type": kind, "object": shown}, ensure_ascii=ascii_only)
        for kind, shown in events
    ]
    data = ("\r\n " if spaced else "").join(written).encode()
    wanted: list[dict[str, Any]] = []
    columns = None
    for kind, shown in events:
        one: dict[str, Any] = shown
        if shown.get("kind") == "Table":
            columns = shown["columnDefinitions"] or columns
            kept = [row for row in shown["rows"] if row["object"] != HIDDEN]
            if not kept:
                continue
            one = shown | {"columnDefinitions": shown["columnDefinitions"] or columns, "rows": kept}
            columns = None
        elif shown == HIDDEN:
            continue
        wanted.append({"type": kind, "object": one})
    assert filtered(*pieces_of(data, cuts)) == wanted


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_refused_or_nothing(data: bytes) -> None:
    with contextlib.suppress(Unfilterable):
        assert filtered(data) == []


def test_each_event_passes_as_soon_as_it_is_complete_byte_for_byte() -> None:
    judge = made()
    metadata = b'{"namespace":"shop","name":"\\u003cw"}'
    raw = b'{"type" : "ADDED", "object":{"metadata":' + metadata + b',"n":1.0e3}}'
    assert judge.feed(raw[:-1], end=False) == b""
    assert judge.feed(raw[-1:], end=False) == raw + b"\n"
    assert judge.feed(b"\n" + event("MODIFIED", HIDDEN) + raw, end=False) == raw + b"\n"
    assert judge.feed(b"\n\n", end=True) == b""


def test_the_same_bytes_may_come_twice() -> None:
    judge, raw = made(), event("ADDED", item())
    assert judge.feed(raw, end=False) + judge.feed(raw, end=False) == raw * 2
    assert filtered(*[raw[:9], raw[9:]] * 3) == [json.loads(raw)] * 3


def test_a_watch_that_is_cut_short_within_an_event_is_no_clean_end() -> None:
    judge = made()
    judge.feed(event("ADDED", item())[:-3], end=False)
    with pytest.raises(Unfilterable, match="within an event"):
        judge.feed(b"", end=True)


# -- bookmarks and errors --------------------------------------------------------------------------


def test_bookmarks_pass_also_the_end_of_the_initial_events() -> None:
    plain = {"kind": "Pod", "metadata": {"resourceVersion": "9", "creationTimestamp": None}}
    ended = {"kind": "Pod", "metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}}
    data = event("BOOKMARK", plain) + event("BOOKMARK", ended)
    assert [one["object"] for one in filtered(data)] == [plain, ended]


def test_a_bookmark_of_a_table_passes() -> None:
    mark = table({"kind": "PartialObjectMetadata", "metadata": {"resourceVersion": "9"}})
    assert [one["object"] for one in filtered(event("BOOKMARK", mark))] == [mark]


@pytest.mark.parametrize("shown", [HIDDEN, table(HIDDEN), {"metadata": {"name": SECRET}}])
def test_a_hidden_object_dressed_up_as_a_bookmark_is_dropped(shown: dict[str, Any]) -> None:
    assert filtered(event("BOOKMARK", shown)) == []


def test_a_nameless_object_is_no_bookmark() -> None:
    assert filtered(event("ADDED", {"metadata": {}, "data": SECRET})) == []
    assert filtered(event("ADDED", table({"metadata": {}, "data": SECRET}))) == []


def test_an_error_passes_but_nothing_dressed_up_as_one() -> None:
    gone = {"kind": "Status", "code": 410, "reason": "Expired"}
    assert [one["object"] for one in filtered(event("ERROR", gone))] == [gone]
    refused(event("ERROR", HIDDEN))
    refused(event("ERROR", table(HIDDEN)))


# -- tables ----------------------------------------------------------------------------------------


def test_column_definitions_of_a_hidden_first_event_come_with_the_first_visible_one() -> None:
    events = [table(HIDDEN, columns=COLUMNS), table(HIDDEN), table(item()), table(item("b"))]
    shown = [one["object"] for one in filtered(*(event("ADDED", one) for one in events))]
    assert shown == [table(item(), columns=COLUMNS), table(item("b"))]


def test_rows_of_one_event_are_judged_one_by_one() -> None:
    several = table(item("a"), HIDDEN, item("b"), columns=COLUMNS)
    assert filtered(event("ADDED", several)) == [
        {"type": "ADDED", "object": table(item("a"), item("b"), columns=COLUMNS)}
    ]


def test_rows_lose_the_objects_that_nobody_asked_for() -> None:
    (one,) = filtered(event("ADDED", table(item(), columns=COLUMNS)), strip_rows=True)
    assert one["object"]["rows"] == [{"cells": [1], "object": None}]


def test_an_object_of_a_kind_named_table_is_an_object() -> None:
    furniture = item() | {"kind": "Table", "apiVersion": "furniture.example.com/v1", "rows": [1]}
    hidden = HIDDEN | {"kind": "Table", "apiVersion": "furniture.example.com/v1", "rows": []}
    data = event("ADDED", furniture) + event("ADDED", hidden)
    assert [one["object"] for one in filtered(data)] == [furniture]


def test_a_table_without_rows_is_dropped() -> None:
    assert filtered(event("ADDED", table() | {"rows": None})) == []


# -- attacks ---------------------------------------------------------------------------------------

SHOP = '{"metadata":{"name":"web","namespace":"shop"}}'


@pytest.mark.parametrize(
    "data",
    [
        event("RENAMED", HIDDEN),
        event("added", HIDDEN),
        json.dumps({"type": None, "object": HIDDEN}).encode(),
        json.dumps({"object": HIDDEN}).encode(),
        json.dumps({"type": "ADDED", "object": [HIDDEN]}).encode(),
        json.dumps({"type": "ADDED", "object": item(), "old": HIDDEN}).encode(),
        json.dumps(HIDDEN).encode(),
        f'{{"type":"ADDED","object":{json.dumps(HIDDEN)},"object":{SHOP}}}'.encode(),
        f'{{"type":"ADDED","type":"BOOKMARK","object":{SHOP}}}'.encode(),
        event("ADDED", table(item(), spec=SECRET)),
        event("ADDED", table() | {"rows": HIDDEN}),
        event("ADDED", table() | {"rows": [SECRET]}),
        event("ADDED", table([HIDDEN])),
        b"\xef\xbb\xbf" + event("ADDED", HIDDEN),
        b"[" + event("ADDED", HIDDEN) + b"]",
        b"null",
        b"k8s\x00\x01",
    ],
)  # fmt: skip
def test_what_is_no_event_ends_the_watch(data: bytes) -> None:
    refused(data)


def test_an_event_nested_too_deep_to_be_judged_is_dropped() -> None:
    deep = b'{"type":"ADDED","object":{"a":' + b"[" * 3000 + b"]" * 3000 + b"}}"
    assert len(filtered(deep + event("ADDED", item()))) == 1
