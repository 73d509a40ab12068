"""What is asked of the cluster so that the answer can be judged, and sealed page tokens."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.answers.filtering.continue_token import TokenExpired, TokenSeal
from mk8s_proxy.answers.filtering.request import (
    MINIMUM_PAGE,
    filtered_target,
    json_accept,
    judgeable_headers,
)
from mk8s_proxy.kube.status import StatusError
from tests.oracle.process import Oracle

SEAL = TokenSeal(b"k" * 32)
TABLE = b"application/json;as=Table;v=v1;g=meta.k8s.io"
PROTOBUF = b"application/vnd.kubernetes.protobuf"


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        (b"", b"application/json"),
        (b"*/*", b"application/json"),
        (b"application/json", b"application/json"),
        (b"APPLICATION/JSON", b"application/json"),
        (b"application/yaml", b"application/json"),
        (PROTOBUF, b"application/json"),
        (b"text/html", b"application/json"),
        (b"application/cbor;q=0.9, application/json", b"application/json;q=0.9,application/json"),
        (PROTOBUF + b",application/json;q=0", b"application/json"),
        (TABLE + b"," + TABLE.replace(b"v1;", b"v1beta1;") + b",application/json",
         TABLE + b"," + TABLE.replace(b"v1;", b"v1beta1;") + b",application/json"),
        (PROTOBUF + b";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json",
         b"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"),
        (PROTOBUF + b";type=collection;stream=watch", b"application/json"),
        (b",;,", b"application/json"),
    ],
)  # fmt: skip
def test_only_json_is_asked_for(accept: bytes, asked: bytes) -> None:
    assert json_accept(accept) == asked


@given(st.binary(max_size=80))
def test_no_accept_header_asks_for_anything_else(accept: bytes) -> None:
    for clause in json_accept(accept).split(b","):
        assert clause.split(b";")[0] == b"application/json"


def test_nothing_is_asked_compressed_partial_or_on_condition() -> None:
    sent = (
        (b"accept", PROTOBUF), (b"accept-encoding", b"gzip"), (b"if-none-match", b'"x"'),
        (b"range", b"bytes=0-9"), (b"user-agent", b"kubectl"), (b"accept", TABLE),
    )  # fmt: skip
    wanted = ((b"user-agent", b"kubectl"), (b"accept", b"application/json," + TABLE))
    assert judgeable_headers(sent) == wanted
    assert judgeable_headers(()) == ((b"accept", b"application/json"),)


@pytest.mark.parametrize(
    ("sent", "forwarded", "strip"),
    [
        (b"/api/v1/pods", b"/api/v1/pods", False),
        (b"/api/v1/pods?", b"/api/v1/pods?", False),
        (b"/api/v1/pods?limit=500&watch", b"/api/v1/pods?limit=500&watch", False),
        (b"/p?limit=1", b"/p?limit=500", False),
        (b"/p?l%69mit=%31&a=1", b"/p?limit=500&a=1", False),
        (b"/p?limit=0", b"/p?limit=0", False),
        (b"/p?limit=-1", b"/p?limit=0", False),
        (b"/p?limit=%2B1", b"/p?limit=500", False),
        (b"/p?limit=" + b"0" * 20 + b"1", b"/p?limit=500", False),
        (b"/p?limit=%2B0000501", b"/p?limit=501", False),
        (b"/p?includeObject=None", b"/p?includeObject=Metadata", True),
        (b"/p?a=1&include%4fbject=%4eone&b", b"/p?a=1&includeObject=Metadata&b", True),
        (b"/p?includeObject=Object", b"/p?includeObject=Object", False),
        (b"/p?includeObject=none", b"/p?includeObject=none", False),
        (b"/p?continue=&x=%zz", b"/p?continue=&x=%zz", False),
        (b"/p?&limit=1&&a=1&", b"/p?&limit=500&&a=1&", False),
    ],
)
def test_what_changes_of_a_target(sent: bytes, forwarded: bytes, strip: bool) -> None:
    assert filtered_target(sent, SEAL, b"") == (forwarded, strip)


@pytest.mark.parametrize(
    "limit", [b"", b"9" * 5000, b"+1", b"%201", b"1e3", b"%EF%BC%91", b"9223372036854775808"]
)
def test_attack_a_limit_that_only_one_of_two_can_read(limit: bytes) -> None:
    """A small page tells whether hidden objects follow; "+" in a query is a space."""
    with pytest.raises(StatusError, match="limit is no number"):
        filtered_target(b"/p?limit=" + limit, SEAL, b"")


@pytest.mark.parametrize(
    "limit",
    [b"%2B1", b"1", b"%31", b"0" * 20 + b"1", b"0" * 5000 + b"1", b"%2B" + b"0" * 30 + b"499"],
)
def test_attack_a_page_so_small_that_its_end_tells_of_hidden_objects(
    oracle: Oracle, limit: bytes
) -> None:
    sent = b"/api/v1/secrets?labelSelector=tier%3Dbank&limit=" + limit
    assert 0 < oracle.request(b"GET", sent)["list"]["limit"] < MINIMUM_PAGE
    asked = filtered_target(sent, SEAL, b"").raw
    assert asked.endswith(b"&limit=500")
    assert oracle.request(b"GET", asked)["list"]["limit"] == MINIMUM_PAGE


@given(st.text(min_size=1, max_size=80), st.binary(max_size=20))
def test_a_page_token_comes_back_as_it_was(token: str, about: bytes) -> None:
    sealed = SEAL.seal(token, about).encode()
    assert SEAL.unseal(sealed, about) == token.encode()
    target = filtered_target(b"/p?limit=900&con%74inue=" + sealed, SEAL, about).raw
    assert target.startswith(b"/p?limit=900&continue=")
    assert b"&" not in target.partition(b"&")[2]


def test_a_page_token_does_not_name_the_last_hidden_object() -> None:
    inner = base64.b64encode(b'{"start":"bank/top-secret"}').decode()
    sealed = SEAL.seal(inner, b"")
    assert inner not in sealed
    assert b"top-secret" not in base64.urlsafe_b64decode(sealed + "==")
    assert SEAL.seal(inner, b"") != sealed


@pytest.mark.parametrize(
    "token",
    [
        base64.b64encode(b'{"v":"meta.k8s.io/v1","rv":1,"start":"bank/a"}'),
        b"x", b"!", b"===", b"\xff", b"a" * 200, SEAL.seal("t", b"other").encode(),
        TokenSeal(b"x" * 32).seal("t", b"mine").encode(),
        SEAL.seal("t", b"mine").encode()[:-2], SEAL.seal("t", b"mine").encode() + b"AAAA",
    ],
    ids=[
        "cluster's", "x", "!", "padding", "byte", "long", "other list", "other key", "cut", "longer"
    ],
)  # fmt: skip
def test_a_page_token_that_was_not_given_for_this_list_has_expired(token: bytes) -> None:
    with pytest.raises(TokenExpired):
        SEAL.unseal(token, b"mine")
    with pytest.raises(TokenExpired):
        filtered_target(b"/api/v1/pods?continue=" + token.replace(b"=", b"%3D"), SEAL, b"mine")


def test_a_page_token_lives_as_long_as_its_key() -> None:
    seal = TokenSeal(b"1" * 32)
    first = seal.seal("first", b"mine").encode()
    seal.replace([b"2" * 32, b"1" * 32])
    second = seal.seal("second", b"mine").encode()
    assert seal.unseal(first, b"mine") == b"first"
    seal.replace([b"3" * 32, b"2" * 32])
    assert seal.unseal(second, b"mine") == b"second"
    with pytest.raises(TokenExpired):
        seal.unseal(first, b"mine")


def test_without_a_shared_key_a_seal_is_its_own() -> None:
    mine, other = TokenSeal(), TokenSeal()
    token = mine.seal("t", b"").encode()
    assert mine.unseal(token, b"") == b"t"
    with pytest.raises(TokenExpired):
        other.unseal(token, b"")
