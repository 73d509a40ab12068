"""Lists and tables shortened while they stream: what passes, byte for byte, and what never does."""

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.answers.filtering import list_filter
from mk8s_proxy.answers.filtering.json_values import (
    TooDeep,
    Unfilterable,
    ValueScanner,
    _Depths,
    unambiguous,
)
from mk8s_proxy.answers.filtering.list_filter import ListFilter
from mk8s_proxy.answers.filtering.objects import ObjectJudge
from mk8s_proxy.answers.filtering.watch_filter import WatchFilter
from tests.support.work import lines_run

SECRET = "top-secret"


def in_shop(namespace: str, name: str) -> bool:
    return namespace == "shop"


def made(*, strip_rows: bool = False) -> ListFilter:
    return ListFilter(ObjectJudge(in_shop, strip_rows=strip_rows), lambda token: f"sealed {token}")


def filtered(*pieces: bytes, strip_rows: bool = False) -> bytes:
    return b"".join(fed(made(strip_rows=strip_rows), pieces))


def fed(judge: ListFilter | WatchFilter, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield judge.feed(piece, end=False)
    yield judge.feed(b"", end=True)


def refused(document: bytes) -> None:
    """The document is refused, as a whole and byte by byte, before anything secret has passed."""
    for pieces in ([document], [document[at : at + 1] for at in range(len(document))]):
        passed: list[bytes] = []
        with pytest.raises(Unfilterable):
            passed.extend(fed(made(), pieces))
        assert SECRET.encode() not in b"".join(passed)


def item(name: str = "web", namespace: str = "shop", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, **more}


def listed(*items: object, **more: Any) -> bytes:
    return json.dumps({"kind": "PodList", "apiVersion": "v1", "items": items, **more}).encode()


HIDDEN = item(SECRET, "bank", data=SECRET)

# -- any document, cut anywhere: the same as parse, filter, write ----------------------------------

words = st.sampled_from(
    ["", "a", "metadata", "items", "name", 'qu"ote', "back\\slash", "\\", '\\"', "{", "}]", "],[",
     "é", "\u2028", "\U0001f600", "a\nb", "<&>", "\x00\x1f"]
)  # fmt: skip
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["web", "db", "", None])
places = st.sampled_from(["shop", "bank", "", None])


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    metadata = draw(st.none() | st.fixed_dictionaries({"name": names, "namespace": places}))
    rest = draw(st.dictionaries(words.filter(lambda word: word != "metadata"), values, max_size=3))
    members = [*rest.items(), ("metadata", metadata)]
    return dict(draw(st.permutations(members)))


@st.composite
def lists(draw: st.DrawFn) -> dict[str, Any]:
    array = draw(st.none() | st.lists(objects(), max_size=5))
    document: dict[str, Any] = {"kind": "PodList", "apiVersion": "v1", "items": array}
    if draw(st.booleans()):
        rows = None if array is None else [{"cells": [1, "x"], "object": one} for one in array]
        document = {"kind": "Table", "columnDefinitions": draw(st.none() | st.lists(values)),
                    "rows": rows}  # fmt: skip
    document["metadata"] = {"resourceVersion": "7"}
    return dict(draw(st.permutations(list(document.items()))))


def expected(document: dict[str, Any]) -> dict[str, Any]:
    def visible(one: dict[str, Any]) -> bool:
        metadata = one["metadata"] or {}
        return bool(metadata.get("name")) and metadata.get("namespace") == "shop"

    shown = dict(document)
    if document.get("items"):
        shown["items"] = [one for one in document["items"] if visible(one)]
    if document.get("rows"):
        shown["rows"] = [row for row in document["rows"] if visible(row["object"])]
    return shown


def pieces_of(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return (data[start:end] for start, end in pairwise(places))


@given(lists(), st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from([None, 1]),
       st.booleans())  # fmt: skip
def test_any_document_cut_anywhere(
    document: dict[str, Any], cuts: list[int], indent: int | None, ascii_only: bool
) -> None:
    separators = (",", ":") if indent is None else None
    written = json.dumps(document, indent=indent, separators=separators, ensure_ascii=ascii_only)
    data = written.encode() + b"\n"
    passed = filtered(*pieces_of(data, cuts))
    assert json.loads(passed) == expected(document)
    assert passed == filtered(*(data[at : at + 1] for at in range(len(data))))
    for one in expected(document).get("items") or ():
        raw = json.dumps(one, indent=indent, separators=separators, ensure_ascii=ascii_only)
        assert indent or raw.encode() in passed


def test_a_piece_may_be_any_byte() -> None:
    data = b'{"kind":"PodList", "items" : [ ' + json.dumps(item()).encode() + b" , {} ] }\n"
    assert filtered(*(data[at : at + 1] for at in range(len(data)))) == filtered(data)


@given(st.lists(values, min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=8))
def test_values_end_where_they_end(wanted: list[Any], cuts: list[int]) -> None:
    texts = [json.dumps(value, ensure_ascii=False).encode() for value in wanted]
    scanner = ValueScanner(1 << 20)
    found = []
    for piece in pieces_of(b" ".join(texts) + b" ", cuts):
        position = 0
        while 0 <= position < len(piece):
            if not scanner.started and piece[position : position + 1] == b" ":
                position += 1
                continue
            position = scanner.feed(piece, position)
            if position >= 0:
                found.append(scanner.take())
    assert found == texts


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_refused_or_a_list(data: bytes) -> None:
    try:
        passed = filtered(data)
    except Unfilterable:
        return
    assert isinstance(json.loads(passed), dict)


@given(lists(), st.data())
def test_a_list_that_is_cut_short_never_looks_complete(document: dict[str, Any], data: Any) -> None:
    written = json.dumps(document).encode()
    length = data.draw(st.integers(0, len(written) - 1))
    judge = made()
    passed = judge.feed(written[:length], end=False)
    with pytest.raises(Unfilterable, match="ends before its end"):
        judge.feed(b"", end=True)
    with pytest.raises(ValueError):
        json.loads(passed)


# -- what passes as it was -------------------------------------------------------------------------


@pytest.mark.parametrize("kept", range(8))
def test_commas_are_right_for_any_subset(kept: int) -> None:
    items = [item(f"n{n}", "shop" if kept >> n & 1 else "bank") for n in range(3)]
    passed = json.loads(filtered(listed(*items)))
    assert passed["items"] == [one for one in items if one["metadata"]["namespace"] == "shop"]


def test_everything_but_the_hidden_passes_byte_for_byte() -> None:
    start = b'{ "kind":"PodList",\n"apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":['
    web = b'{"n":1.50e3,"s":"\\u003c\\/\xc3\xa9","metadata" : {"namespace":"shop","name":"w"}}'
    bank = b'{"metadata":{"namespace":"bank","name":"b"}}'
    data = start + b" " + bank + b" , " + web + b",\n" + bank + b"," + web + b" ]}\n"
    assert filtered(data) == start + b"  " + web + b"," + web + b" ]}\n"


def test_pretty_output_stays_pretty() -> None:
    data = json.dumps(json.loads(listed(item("a"), HIDDEN, item("b"))), indent=2).encode()
    wanted = json.dumps(json.loads(listed(item("a"), item("b"))), indent=2).encode()
    assert filtered(data) == wanted


@pytest.mark.parametrize("empty", [b"null", b"[]", b"[ ]"])
def test_an_empty_list_passes(empty: bytes) -> None:
    data = b'{"kind":"PodList","items":' + empty + b"}"
    assert filtered(data) == data
    assert filtered(b"{ }") == b"{ }"


def test_a_page_token_is_sealed_and_the_version_kept() -> None:
    metadata = {"resourceVersion": "5", "continue": "shop/web", "selfLink": "/api/v1/pods"}
    passed = json.loads(filtered(listed(metadata=metadata)))
    assert passed["metadata"] == metadata | {"continue": "sealed shop/web"}


@pytest.mark.parametrize("token", ["", "shop/web"])
def test_a_list_says_of_which_shard_it_is(token: str) -> None:
    shard = {"selector": "shardRange(object.metadata.uid,'0x0','0x8')"}
    metadata = {"resourceVersion": "5", "continue": token, "shardInfo": shard}
    passed = json.loads(filtered(listed(item(), HIDDEN, metadata=metadata)))["metadata"]
    assert passed == metadata | ({"continue": f"sealed {token}"} if token else {})


@pytest.mark.parametrize(
    "shard", [1, "x", [], {}, {"selector": 1}, {"selector": "a", "object": {"kind": "Secret"}}]
)
def test_a_shard_that_could_be_an_object_in_disguise_is_not_shown(shard: Any) -> None:
    with pytest.raises(Unfilterable):
        filtered(listed(item(), metadata={"shardInfo": shard}))


def test_rows_lose_the_objects_that_nobody_asked_for() -> None:
    rows = [{"cells": ["web", 1], "object": item()}, {"cells": ["x"], "object": HIDDEN}]
    data = json.dumps({"kind": "Table", "rows": rows}).encode()
    passed = json.loads(filtered(data, strip_rows=True))
    assert passed["rows"] == [{"cells": ["web", 1], "object": None}]
    assert json.loads(filtered(data))["rows"] == rows[:1]


# -- attacks ---------------------------------------------------------------------------------------


def test_hidden_objects_do_not_show_in_the_remaining_item_count() -> None:
    metadata = {"resourceVersion": "5", "remainingItemCount": 1234, "continue": ""}
    passed = filtered(listed(item(), HIDDEN, metadata=metadata))
    assert json.loads(passed)["metadata"] == {"resourceVersion": "5", "continue": ""}
    assert b"1234" not in passed


def test_a_key_written_with_escapes_is_the_same_key() -> None:
    data = listed(HIDDEN, item()).replace(b'"items"', b'"\\u0069tems"')
    assert SECRET.encode() not in filtered(data)
    assert len(json.loads(filtered(data))["items"]) == 1


def test_an_array_of_items_within_an_annotation_is_only_text() -> None:
    annotated = item()
    annotated["metadata"]["annotations"] = {"items": '"items":[{"metadata":{}}]'}
    annotated["items"] = [HIDDEN["metadata"]]
    assert json.loads(filtered(listed(annotated, HIDDEN)))["items"] == [annotated]


@pytest.mark.parametrize(
    "twins",
    [
        '{"metadata":{"name":"top-secret"},"metadata":{"name":"web","namespace":"shop"}}',
        '{"metadata":{"namespace":"bank","name":"top-secret","namespace":"shop"}}',
        '{"metadata":{"namespace":"bank","name":"top-secret","namespac\\u0065":"shop"}}',
        '{"metadata":{"name":"web","namespace":"shop"},"data":{"a":"<top-secret>","a":1}}',
    ],
)
def test_an_object_with_the_same_key_twice_is_refused(twins: str) -> None:
    refused(b'{"items":[' + twins.encode() + b"]}")
    refused(b'{"rows":[{"object":' + twins.encode() + b"}]}")


def test_a_second_array_of_items_is_refused() -> None:
    refused(listed(item())[:-1] + b',"items":[' + json.dumps(HIDDEN).encode() + b"]}")
    refused(listed(item())[:-1] + b',"item\\u0073":[' + json.dumps(HIDDEN).encode() + b"]}")


@pytest.mark.parametrize(
    "document",
    [
        HIDDEN | {"kind": "PodList", "apiVersion": "v1"},
        {"kind": "PodList", "items": [], "data": SECRET},
        {"kind": "Status", "message": SECRET},
        {"kind": HIDDEN, "items": []},
        {"kind": 7},
        {"apiVersion": [SECRET]},
        {"columnDefinitions": HIDDEN},
        {"metadata": SECRET},
        {"metadata": {"continue": HIDDEN}},
        {"metadata": {"resourceVersion": [SECRET]}},
        {"items": HIDDEN},
        {"items": SECRET},
        {"items": 1},
        {"rows": {"0": HIDDEN}},
        {"items": [[HIDDEN]]},
        {"items": [None]},
        {"items": [item(), SECRET]},
        {"items": [{"metadata": [SECRET, {"namespace": "shop"}]}]},
        {"items": [{"metadata": {"name": SECRET, "namespace": ["shop"]}}]},
        {"items": [{"metadata": {"name": {"a": SECRET}, "namespace": "shop"}}]},
        {"rows": [{"object": [HIDDEN]}]},
        {"Items": [HIDDEN]},
    ],
)
def test_an_object_dressed_up_as_a_list_is_refused(document: dict[str, Any]) -> None:
    refused(json.dumps(document).encode())


@pytest.mark.parametrize("shape", [item("", "shop"), {"spec": SECRET}, {"metadata": None}])
def test_an_item_that_does_not_say_what_it_is_is_hidden(shape: dict[str, Any]) -> None:
    assert json.loads(filtered(listed(shape, item())))["items"] == [item()]
    rows = json.dumps({"rows": [{"cells": [SECRET]}, {"cells": [], "object": shape}]}).encode()
    assert json.loads(filtered(rows)) == {"rows": []}


def test_an_item_nested_too_deep_to_be_judged_is_hidden_and_harms_nobody() -> None:
    monster = json.dumps(item("monster", spec=1)).encode().replace(b'"spec": 1', b'"spec": %b')
    monster %= b"[" * 3000 + b"]" * 3000
    data = listed(item("a"), "MONSTER", item("b")).replace(b'"MONSTER"', monster)
    kept = [item("a"), item("b")]
    assert json.loads(filtered(data))["items"] == kept
    assert json.loads(filtered(*pieces_of(data, range(0, len(data), 7))))["items"] == kept
    row = b'{"rows":[{"object":%b}]}' % monster
    assert filtered(row) == b'{"rows":[]}'
    refused(b'{"columnDefinitions":' + b"[" * 3000 + b"]" * 3000 + b"}")


BRACES: dict[str, bytes] = {
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "beside each other": b"[" + b"[],{}," * 50_000 + b"0]",
    "sawtooth": b"[" + b"[[[[0]]]]," * 20_000 + b"0]",
}


@pytest.mark.parametrize("braces", BRACES.values(), ids=list(BRACES))
def test_attack_braces_cost_less_than_a_step_each(braces: bytes) -> None:
    """Millions of them in one object would hold everybody's requests for seconds."""
    scanner = ValueScanner(1 << 30)
    assert lines_run(lambda: scanner.feed(braces, 0)) < 1000
    assert scanner.take() == braces


def test_attack_what_is_remembered_of_brackets_is_bounded() -> None:
    depths = _Depths(lowest=True)
    for run in product(b"[]", repeat=13):
        assert depths[bytes(run)] <= 0
    assert len(depths) < 2**13


def end_of_value(data: bytes) -> int:
    """Where the first value ends, found byte by byte; there are no escapes in it."""
    depth, in_string = 0, False
    for place, byte in enumerate(data):
        in_string ^= byte == b'"'[0]
        if not in_string:
            depth += (byte in b"{[") - (byte in b"}]")
        if depth <= 0 and not in_string:
            return place + 1
    return -1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"[", b"]", b"{", b"}", b"[]", b"[[0]]", b'""', b'"]"', b",", b"1"]),
            st.sampled_from([1, 2, 7, 8, 9, 31, 32, 33, 255, 256, 257, 1000, 5000]),
        ),
        max_size=12,
    ),
    st.sampled_from([1 << 30, 3000, 257, 61]),
)
def test_a_value_ends_where_a_naive_reader_says(parts: list[tuple[bytes, int]], cut: int) -> None:
    data = b"[" + b"".join(text * count for text, count in parts)
    scanner, found = ValueScanner(1 << 30), -1
    for start in range(0, len(data), cut):
        end = scanner.feed(data[start : start + cut], 0)
        if end >= 0:
            found = start + end
            break
    assert found == end_of_value(data)
    if found >= 0:
        assert scanner.take() == data[:found]


@pytest.mark.parametrize("levels", [100, 300, 900, 1010])
def test_an_item_nested_deep_is_seen_or_hidden_but_never_refused(levels: int) -> None:
    spec = b"[" * levels + b"]" * levels
    raw = b'{"metadata":{"name":"a","namespace":"shop"},"spec":' + spec + b"}"
    passed = filtered(b'{"items":[' + raw + b"]}")
    assert passed in {b'{"items":[' + raw + b"]}", b'{"items":[]}'}
    assert levels > 500 or raw in passed


def test_depth_beyond_what_python_recurses_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(json, "loads", overflow)
    with pytest.raises(TooDeep):
        unambiguous(b'{ "a": 1 }')


def test_a_huge_string_costs_time_in_proportion_and_one_object_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = item("web", data="\\" * 200_000 + '"{[' * 50_000)
    data = listed(big, HIDDEN)
    assert json.loads(filtered(*pieces_of(data, range(0, len(data), 1000))))["items"] == [big]


def test_an_item_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_filter, "MAXIMUM_OBJECT", 100)
    refused(listed(item(data="x" * 100)))
    assert filtered(listed(item()))


@pytest.mark.parametrize(
    "document",
    [
        b"", b" ", b"[]", b"null", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{}{}", b"{} x", b"{",
        b'{"kind":"PodList"', b'{"kind":"a",}', b"{,}", b'{"kind"}', b'{"kind":}', b'{"kind" "a"}',
        b'{kind:"a"}', b'{"kind":"a" "metadata":{}}', b'{"items":[{"metadata":{}}',
        b'{"items":[,]}',
        b'{"items":[{"a":1}{"b":2}]}', b'{"items":[{"a":1},]}', b'{"items":[{]}]}', b'{"items":[}',
        b'{"items":[{"a":}]}', b'{"kind":"\xff"}', b'{"\xff":1}', b'{"kind":"\\x"}', b"{'kind':1}",
        b'{"metadata":' + b"1" * 2000 + b"}", b'{"items":[' + b" " * 70_000 + b"{}]}",
        b'{"kind":"a"]', b'{"items":[{"metadata":{"name":"\\ud800"}}]}', b'{"kind":1e5',
        b'{"kind":-', b'{"items":nul',
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(document: bytes) -> None:
    refused(document)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\x00", b"\x1e", b"/**/", b"//\n"])
def test_no_mark_or_comment_hides_an_item(mark: bytes) -> None:
    hidden = json.dumps(HIDDEN).encode()
    for document in (
        mark + b'{"items":[' + hidden + b"]}",
        b'{"items":[' + mark + hidden + b"]}",
        b'{"items":[]}' + mark + hidden,
        b'{"items":[' + hidden[:-1] + mark + b"}]}",
    ):
        refused(document)


def test_a_string_that_ends_with_a_piece_inside_an_escape() -> None:
    data = listed(item("a", text='\\"\\\\" {['), HIDDEN)
    for first in range(len(data)):
        for second in (first + 1, first + 2):
            pieces = data[:first], data[first:second], data[second:]
            assert json.loads(filtered(*pieces))["items"] == [item("a", text='\\"\\\\" {[')]


# -- memory ----------------------------------------------------------------------------------------


def test_five_thousand_objects_pass_in_the_memory_of_a_few() -> None:
    body = json.dumps(item("web", data={f"k{n}": "v" * 60 for n in range(140)})).encode()
    hidden = body.replace(b"shop", b"bank")
    assert len(body) > 10_000
    judge = made()
    tracemalloc.start()
    try:
        passed = len(judge.feed(b'{"kind":"PodList","items":[', end=False))
        for number in range(5000):
            data = (b"," if number else b"") + (body if number % 2 else hidden)
            for start in range(0, len(data), 4096):
                passed += len(judge.feed(data[start : start + 4096], end=False))
        passed += len(judge.feed(b"]}", end=True))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert passed > 2500 * len(body)
    assert peak < 2 * 1024 * 1024
