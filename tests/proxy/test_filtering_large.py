"""Objects of megabytes: judged in pieces, read as a whole reader would, in no long step."""

import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.answers.filtering import large_objects
from mk8s_proxy.answers.filtering.json_values import TooDeep, Unfilterable, unambiguous
from mk8s_proxy.answers.filtering.large_objects import LARGE, LargeObject
from mk8s_proxy.answers.filtering.list_filter import ListFilter
from mk8s_proxy.answers.filtering.objects import ObjectJudge
from mk8s_proxy.answers.filtering.watch_filter import WatchFilter
from tests.support.work import HELD_TOO_LONG, lines_run

TEXTS = (1, 1.5, None, True, "", "a,b", 'x"y{', "\\", "\\\\", "\u00e9,", " [,", "{", '"', "]")
MEGABYTES = 1_000_000
FRAME = 64 * 1024


def outlined(value: dict[str, Any], levels: int = 3) -> dict[str, Any]:
    """What is kept of a document, told in another way."""
    kept: dict[str, Any] = {}
    for key, member in value.items():
        kept[key] = [] if isinstance(member, list) else member
        if isinstance(member, dict):
            kept[key] = outlined(member, levels - 1) if levels > 1 else {}
    return kept


def read(raw: bytes, sizes: Iterator[int]) -> dict[str, Any]:
    reader, place = LargeObject(), 0
    while place < len(raw):
        size = next(sizes)
        reader.feed(raw[place : place + size])
        place += size
    return reader.finish()


def any_sizes(draw: random.Random) -> Iterator[int]:
    while True:
        yield draw.randrange(1, 30)


def any_value(draw: random.Random, levels: int) -> Any:
    kind = draw.randrange(8)
    if levels == 0 or kind < 3:
        return draw.choice(TEXTS)
    members = range(draw.randrange(5))
    if kind < 6:
        return {f"{draw.choice('abcdefgh')}{n}": any_value(draw, levels - 1) for n in members}
    return [any_value(draw, levels - 1) for _ in members]


def any_document(draw: random.Random) -> bytes:
    value = {"m": any_value(draw, 4), "n": any_value(draw, 5), "o": any_value(draw, 3)}
    separators = draw.choice([(",", ":"), (", ", ": "), (" ,\n", " : ")])
    text = json.dumps(value, separators=separators, ensure_ascii=draw.random() < 0.5)
    return text.encode()


def spoilt(draw: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(draw.randrange(1, 3)):
        place = draw.randrange(len(changed))
        other = draw.choice([b"", *(b"%c" % character for character in b'{}[],:"1 a')])
        changed[place : place + draw.randrange(2)] = other
    return bytes(changed)


@pytest.fixture
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_objects, "SEGMENT", 12)


@pytest.mark.usefixtures("_small_segments")
def test_pieces_say_what_the_whole_says() -> None:
    for seed in range(2000):
        draw = random.Random(seed)
        raw = any_document(draw)
        assert read(raw, any_sizes(draw)) == outlined(unambiguous(raw)), raw


@pytest.mark.usefixtures("_small_segments")
def test_attack_no_piece_of_anything_but_json_passes() -> None:
    accepted = 0
    for seed in range(4000):
        draw = random.Random(seed)
        raw = spoilt(draw, any_document(draw))
        try:
            found = read(raw, any_sizes(draw))
        except Unfilterable:
            with pytest.raises(Unfilterable):
                unambiguous_object(raw)
        else:
            accepted += 1
            assert outlined(json.loads(raw)) == found, raw
    assert 100 < accepted < 3900


def unambiguous_object(raw: bytes) -> None:
    if not isinstance(unambiguous(raw), dict):
        raise Unfilterable("no object")


JSON = st.recursive(
    st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@pytest.mark.usefixtures("_small_segments")
@given(JSON)
def test_every_value_is_read_like_any_other(value: Any) -> None:
    raw = json.dumps({"a": value, "b": [value]}).encode()
    assert read(raw, itertools.repeat(5)) == outlined(json.loads(raw))


@pytest.mark.usefixtures("_small_segments")
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "raw",
    [
        b'{"metadata":{"name":"seen"},"a":[1,2,3,4,5,6],"metadata":{"name":"hidden"}}',
        b'{"metadata":{"name":"seen","a":[1,2,3,4,5,6,7],"name":"hidden"}}',
        b'{"object":{"metadata":{"a":"aaaaaaaaa","name":"a","b":1,"c":2,"name":"b"}}}',
        b'{"a":1,"b":[1,2,3,4,5,6,7,8,9],}',
        b'{"a":1,"b":[1,2,3,4,5,6,7,8,9,]}',
        b'{"a":1,"b":[1,2,3,4,5,6,7,,9]}',
        b'{"a":1,"b":[,1,2,3,4,5,6,7,8]}',
        b'{"a":1,"b":[1,2,3,4,5,6,7,8,9]',
        b'{"a":1,"b":[1,2,3,4,5,6,7,8,9]}}',
        b'{"a":1,"b":[1,2,3,4,5,6,7,8,9}]',
        b'{"a":1,"b":[{1,2,3,4,5,6,7,8,9]}]}',
        b'["a",1,"b",[1,2,3,4,5,6,7,8,9]]',
        b"7",
        b" ",
    ],
)
def test_attack_an_object_that_two_readers_read_differently(raw: bytes, size: int) -> None:
    with pytest.raises(Unfilterable):
        read(raw, itertools.repeat(size))


@pytest.mark.usefixtures("_small_segments")
@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":' + b"[1," * 600 + b"1" + b"]" * 600 + b"}",
        b'{"a":' + b"[" * 6000 + b"]" * 6000 + b',"b":1}',
        b"{" + b",".join(b'"%d":1' % number for number in range(10_001)) + b"}",
    ],
    ids=["levels", "brackets", "members"],
)
def test_attack_nesting_and_names_without_end(raw: bytes) -> None:
    with pytest.raises(TooDeep):
        read(raw, itertools.repeat(5000))


SHAPES = {
    "pods": b'{"spec":{"n":"c","env":[{"name":"A","value":"b"}],"r":{"l":{"cpu":"1"}}}}',
    "objects": b"{}",
    "numbers": b"1",
    "strings": b'""',
    "strings with escapes": rb'"\\\"{"',
    "nested": b"[" * 60 + b"]" * 60,
    "floats": b"1e22",
    "one string": b'"' + b"a" * (MEGABYTES - 3) + b'"',
}


def large(shape: bytes, name: str) -> bytes:
    head = json.dumps({"metadata": {"name": name, "namespace": "shop"}}).encode()
    members = b",".join([shape] * (MEGABYTES // (len(shape) + 1)))
    return head[:-1] + b',"status":{"deep":{"er":[' + members + b"]}}}"


def in_frames(document: bytes) -> list[bytes]:
    return [document[at : at + FRAME] for at in range(0, len(document), FRAME)]


def visible(namespace: str, name: str) -> bool:
    return name == "seen"


@pytest.mark.parametrize(
    ("kind", "shape"),
    [*(("items", shape) for shape in SHAPES), ("rows", "pods"), ("watch", "pods")],
)
def test_attack_objects_of_megabytes_hold_nobody_up(kind: str, shape: str) -> None:
    objects = [large(SHAPES[shape], name) for name in ("hidden", "seen")]
    reader: ListFilter | WatchFilter = ListFilter(ObjectJudge(visible), str)
    if kind == "watch":
        reader = WatchFilter(ObjectJudge(visible))
        events = [b'{"type":"ADDED","object":%b}\n' % one for one in objects]
        document, wanted = b"".join(events), events[1]
    else:
        inner = b'{"cells":[],"object":%b}' if kind == "rows" else b"%b"
        rows = [inner % one for one in objects]
        document = b'{"%b":[%b]}' % (kind.encode(), b",".join(rows))
        wanted = b'{"%b":[%b]}' % (kind.encode(), rows[1])
    shown: list[bytes] = []
    most = 0
    for frame in in_frames(document):
        lines = lines_run(lambda piece=frame: shown.append(reader.feed(piece, False)))  # type: ignore[misc]
        most = max(most, lines)
    shown.append(reader.feed(b"", True))
    assert b"".join(shown) == wanted
    assert most < HELD_TOO_LONG // 2


def test_attack_no_parser_gets_more_than_a_few_segments_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is counted in lines does not see what one call of a library does."""
    sizes: list[int] = []

    def measured(raw: bytes) -> Any:
        sizes.append(len(raw))
        return unambiguous(raw)

    monkeypatch.setattr(large_objects, "unambiguous", measured)
    reader = ListFilter(ObjectJudge(visible), str)
    for frame in in_frames(b'{"items":[%b]}' % large(SHAPES["pods"], "seen")):
        reader.feed(frame, False)
    assert max(sizes) <= LARGE + 2 * FRAME
    assert sum(sizes) < MEGABYTES + 100_000


def test_a_large_table_in_a_watch_is_judged_row_by_row() -> None:
    rows = [b'{"object":%b}' % large(b"1", name) for name in ("hidden", "seen")]
    table = b'{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[%b]}' % b",".join(rows)
    shown = WatchFilter(ObjectJudge(visible)).feed(b'{"type":"ADDED","object":%b}' % table, True)
    [row] = json.loads(shown)["object"]["rows"]
    assert row["object"]["metadata"]["name"] == "seen"


def test_large_rows_lose_their_objects_where_the_client_wants_none() -> None:
    names = ("seen", "hidden")
    rows = b",".join(b'{"cells":[1],"object":%b}' % large(b"1", name) for name in names)
    reader = ListFilter(ObjectJudge(visible, strip_rows=True), str)
    assert json.loads(reader.feed(b'{"rows":[%b]}' % rows, True)) == {
        "rows": [{"cells": [1], "object": None}]
    }


def test_attack_a_large_object_that_is_too_deep_is_not_shown() -> None:
    deep = large(b"[" * 700 + b"]" * 700, "seen")
    document = b'{"items":[%b,{"metadata":{"name":"seen"}}]}' % deep
    reader = ListFilter(ObjectJudge(visible), str)
    shown = b"".join(reader.feed(frame, False) for frame in in_frames(document))
    assert shown + reader.feed(b"", True) == b'{"items":[{"metadata":{"name":"seen"}}]}'


def test_pairs_deeper_than_all_rounds_are_still_pairs() -> None:
    deep = 70
    assert large_objects._brackets_of(b"[" * deep + b"]" * deep) == (0, [])
    assert large_objects._brackets_of(b"]" + b"[" * deep + b"]" * (deep - 1)) == (1, [ord("[")])
    with pytest.raises(Unfilterable):
        large_objects._brackets_of(b"[" * deep + b"}" + b"]" * deep)
