"""What a deletion of a part asks for each object, and what it keeps of the list."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_protobuf import envelope

from mk8s_proxy.answers.filtering.delete_options import (
    check_whole,
    list_query,
    names_uid,
    options_for,
    read_options,
    read_parameters,
)
from mk8s_proxy.answers.filtering.deletion_candidates import Candidate, DeletionCandidates
from mk8s_proxy.answers.filtering.json_values import Unfilterable
from mk8s_proxy.kube import cbor
from mk8s_proxy.kube.status import StatusError

texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4), st.none() | st.dictionaries(texts, values))
def test_every_option_stays_and_the_uid_comes_along(options: Any, own: Any) -> None:
    options.pop("preconditions", None)
    given_ = options | ({} if own is None else {"preconditions": own})
    body = json.dumps(given_).encode()
    read = read_options(body, b"application/json; charset=utf-8", {})
    sent = json.loads(options_for(read, "the-uid"))
    meant = sent.pop("preconditions")
    assert sent == options
    assert meant["uid"] == ((own or {}).get("uid") or "the-uid")
    assert {**meant, "uid": 0} == {**(own or {}), "uid": 0}


@given(st.dictionaries(texts, texts, max_size=4))
def test_a_query_is_read_as_it_was_written(written: dict[str, str]) -> None:
    written.pop("", None)
    read = read_parameters(urlencode(written).encode())
    assert {key.decode(): value[0].decode() for key, value in read.items()} == written


@given(texts, texts, texts)
def test_selectors_and_tokens_are_asked_for_as_they_are(
    labels: str, fields: str, token: str
) -> None:
    query = f"labelSelector={quote(labels)}&fieldSelector={quote(fields)}"
    asked = read_parameters(
        list_query(read_parameters(query.encode()), token, table=False).encode()
    )
    wanted = {"labelSelector": labels, "fieldSelector": fields, "continue": token, "limit": "500"}
    assert {key.decode(): value[0].decode() for key, value in asked.items()} == {
        key: value for key, value in wanted.items() if value
    }


def test_a_table_must_say_what_its_rows_are_about() -> None:
    assert list_query({}, "", table=True) == "limit=500&includeObject=Metadata"


@pytest.mark.parametrize("flag", ["true", "1", "", "False", "0", "FALSE"])
def test_flags_of_a_query_are_those_of_kubernetes(flag: str) -> None:
    options = read_options(b"", b"", read_parameters(f"orphanDependents={flag}".encode()))
    assert options["orphanDependents"] is (flag.lower() not in ("false", "0"))


def test_a_uid_of_the_query_is_a_precondition() -> None:
    options = read_options(b"", b"", read_parameters(b"uid=u&dryRun=All&dryRun=x"))
    assert names_uid(options)
    assert options["dryRun"] == ["All", "x"]
    assert json.loads(options_for(options, "other"))["preconditions"] == {"uid": "u"}


def test_an_empty_uid_is_none() -> None:
    options = read_options(b'{"preconditions": {"uid": ""}}', b"", {})
    assert not names_uid(options)
    assert json.loads(options_for(options, "u"))["preconditions"] == {"uid": "u"}
    assert not names_uid(read_options(b'{"preconditions": null}', b"", {}))


@pytest.mark.parametrize("query", [b"limit=5", b"continue=x", b"limit=-1", b"limit="])
def test_pages_are_refused(query: bytes) -> None:
    with pytest.raises(StatusError, match="cannot be cut into pages"):
        check_whole(read_parameters(query))
    check_whole(read_parameters(b"limit=0&timeoutSeconds=5&pretty=true&dryRun=All"))
    check_whole(read_parameters(b"&pretty=true&&"))


@pytest.mark.parametrize("query", [b"x=1", b"labelselector=a", b"%ff=1", b"sendInitialEvents=1"])
def test_attack_a_selector_that_is_not_known_would_delete_everything(query: bytes) -> None:
    with pytest.raises(StatusError, match="leave it out"):
        check_whole(read_parameters(query))


def test_the_shard_that_was_selected_is_all_that_is_listed() -> None:
    shard = b"shardRange(object.metadata.uid,'0x0','0x8')"
    parameters = read_parameters(b"shardSelector=" + quote(shard, safe="").encode())
    check_whole(parameters)
    for token in ("", "next"):
        asked = read_parameters(list_query(parameters, token, table=False).encode())
        assert asked[b"shardSelector"] == [shard]


@pytest.mark.parametrize("query", [b"timeoutSeconds=x", b"timeoutSeconds="])
def test_a_deletion_that_kubernetes_refuses_is_not_begun(query: bytes) -> None:
    with pytest.raises(StatusError, match="timeoutSeconds is no number"):
        check_whole(read_parameters(query))


def test_attack_a_flag_that_kubernetes_reads_in_two_ways() -> None:
    with pytest.raises(StatusError, match="neither"):
        read_options(b"", b"", read_parameters("orphanDependents=fal\u017fe".encode()))


def page(names: list[str], token: str) -> bytes:
    items = [{"metadata": {"name": name, "uid": f"u-{name}"}} for name in names]
    metadata = {"resourceVersion": "1", "continue": token}
    return json.dumps({"kind": "NodeList", "metadata": metadata, "items": items}).encode()


some_names = st.lists(st.sampled_from(["a", "b", "hidden"]), max_size=4)


@given(st.lists(some_names, min_size=1, max_size=3), st.integers(1, 40))
def test_pages_cut_anywhere_are_one_list(pages: list[list[str]], size: int) -> None:
    found = DeletionCandidates(lambda _, name: name != "hidden", "", strip_rows=False)
    for number, names in enumerate(pages, start=1):
        reader = found.page()
        token = "next" if number < len(pages) else ""
        document = page(names, token)
        pieces = [document[start : start + size] for start in range(0, len(document), size)]
        for piece in pieces:
            reader.feed(piece, False)
        reader.feed(b"", True)
        assert found.token == token
    wanted = [name for names in pages for name in names if name != "hidden"]
    assert list(found.waiting) == [Candidate(name, f"u-{name}") for name in wanted]
    answer = json.loads(found.answer)
    assert [one["metadata"]["name"] for one in answer["items"]] == wanted
    assert answer["metadata"] == {"resourceVersion": "1"}
    assert answer["kind"] == "NodeList"


@pytest.mark.parametrize("row", [{}, {"object": None}, {"object": {"metadata": {}}}])
def test_a_row_that_is_about_nothing_is_not_deleted(row: Any) -> None:
    found = DeletionCandidates(lambda *_: True, "", strip_rows=True)
    found.page().feed(json.dumps({"rows": [row]}).encode(), True)
    assert not found.waiting


@pytest.mark.parametrize("metadata", [{"name": "a"}, {"name": "a", "uid": ""},
                                      {"name": "a", "uid": "u", "namespace": "x"}])  # fmt: skip
def test_attack_an_object_that_could_be_another_one_later(metadata: Any) -> None:
    found = DeletionCandidates(lambda *_: True, "", strip_rows=False)
    with pytest.raises(Unfilterable):
        found.page().feed(json.dumps({"items": [{"metadata": metadata}]}).encode(), True)
    assert not found.waiting


PRECONDITIONS = b"\x12\x07\x0a\x01u\x12\x02\x31\x37"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"application/cbor", cbor.encode),
        (
            b"application/vnd.kubernetes.protobuf",
            lambda _: envelope(
                "DeleteOptions",
                b"\x08\x1e"
                + PRECONDITIONS
                + b"\x18\x00"
                + b"\x22\x06Orphan"
                + b"\x2a\x03All\x30\x00",
                "v1",
            ),
        ),
    ],
)
def test_options_are_read_in_every_form(content_type: bytes, body: Any) -> None:
    options = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 30,
        "preconditions": {"uid": "u", "resourceVersion": "17"},
        "orphanDependents": False,
        "propagationPolicy": "Orphan",
        "dryRun": ["All"],
        "ignoreStoreReadErrorWithClusterBreakingPotential": False,
    }
    assert read_options(body(options), content_type, {}) == options
