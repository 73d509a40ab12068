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


def outlined_event(event: dict[str, Any]) -> dict[str, Any]:
    """The same of an event that may be about a table."""
    kept, table = outlined(event), event.get("object")
    if isinstance(table, dict) and isinstance(rows := table.get("rows"), list):
        kept["object"]["rows"] = [outlined(it) if isinstance(it, dict) else None for it in rows]
    return kept


def read(raw: bytes, sizes: Iterator[int], *, rows: bool = False) -> dict[str, Any]:
    reader, place = LargeObject(rows=rows), 0
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


def small_row(name: str) -> bytes:
    """Large, but not too large to be changed."""
    object_ = large(b"1", name)[: MEGABYTES // 4 + 1].rstrip(b",") + b"]}}}"
    return b'{"cells":[1],"object":%b}' % object_


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


def any_row(draw: random.Random) -> Any:
    if draw.random() < 0.1:
        return any_value(draw, 2)
    named = {"name": draw.choice("abc"), "rows": any_value(draw, 2)}
    return {"cells": any_value(draw, 2), "object": {"metadata": named, "rows": [{"a": {}}]}}


@pytest.mark.usefixtures("_small_segments")
def test_pieces_of_a_table_say_what_its_rows_are_about() -> None:
    for seed in range(500):
        draw = random.Random(seed)
        rows = [any_row(draw) for _ in range(draw.randrange(4))]
        table = {"m": any_value(draw, 2), "rows": rows, "n": any_value(draw, 3)}
        raw = json.dumps({"type": "ADDED", "object": table, "rows": [{"a": {"b": [1]}}]}).encode()
        found = read(raw, any_sizes(draw), rows=True)
        assert found == outlined_event(json.loads(raw)), raw


COLUMNS = [{"name": "Name", "type": "string"}]


def table_event(*rows: bytes, columns: Any = None) -> bytes:
    table = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns}
    head = json.dumps({"type": "ADDED", "object": table}).encode()
    return head[:-2] + b',"rows":[%b]}}' % b",".join(rows)


def row(name: str, shape: bytes = b"1") -> bytes:
    return b'{"cells":[1],"object":%b}' % large(shape, name)


@pytest.mark.parametrize("shape", ["pods", "objects", "numbers"])
def test_attack_a_large_table_in_a_watch_is_judged_while_it_arrives(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """Thirty times larger than a pod, it would be parsed for as long."""
    sizes: list[int] = []

    def measured(raw: bytes) -> Any:
        sizes.append(len(raw))
        return unambiguous(raw)

    monkeypatch.setattr(large_objects, "unambiguous", measured)
    events = [table_event(row(name, SHAPES[shape])) for name in ("hidden", "seen")]
    reader = WatchFilter(ObjectJudge(visible))
    shown = [reader.feed(frame, False) for frame in in_frames(b"\n".join(events))]
    assert b"".join(shown) == events[1] + b"\n"
    assert max(sizes) <= LARGE + 2 * FRAME


def test_a_large_table_keeps_the_columns_of_one_that_was_not_shown() -> None:
    hidden = table_event(row("hidden"), columns=COLUMNS)
    seen = table_event(small_row("seen"))
    reader = WatchFilter(ObjectJudge(visible))
    assert reader.feed(hidden, False) == b""
    table = json.loads(reader.feed(seen, True))["object"]
    assert table["columnDefinitions"] == COLUMNS
    assert table["rows"][0]["object"]["metadata"]["name"] == "seen"


def test_rows_of_a_large_table_are_shown_one_by_one_and_without_objects() -> None:
    event = table_event(*(small_row(name) for name in ("hidden", "seen")))
    shown = json.loads(WatchFilter(ObjectJudge(visible)).feed(event, True))["object"]["rows"]
    assert [it["object"]["metadata"]["name"] for it in shown] == ["seen"]
    stripped = WatchFilter(ObjectJudge(visible, strip_rows=True)).feed(event, True)
    assert json.loads(stripped)["object"]["rows"] == [{"cells": [1], "object": None}]


def test_attack_a_table_that_would_take_long_to_change_is_not_shown() -> None:
    events = [table_event(row("seen"), row("seen")), table_event(small_row("seen"))]
    reader = WatchFilter(ObjectJudge(visible, strip_rows=True))
    [shown] = reader.feed(b"".join(events), True).splitlines()
    assert json.loads(shown)["object"]["rows"] == [{"cells": [1], "object": None}]


@pytest.mark.parametrize("size", [400, 150_000])
def test_attack_a_table_of_very_many_rows_is_not_shown(size: int) -> None:
    rows = (b'{"object":{"metadata":{"name":"seen"}}}',) * 1001
    event = table_event(*rows, b'{"object":%b}' % large(b"1", "seen"))
    reader = WatchFilter(ObjectJudge(visible))
    shown = [reader.feed(event[at : at + size], False) for at in range(0, len(event), size)]
    assert b"".join(shown) == b""


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
