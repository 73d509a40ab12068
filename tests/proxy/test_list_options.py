"""The options of a list, read as apimachinery reads them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mk8s_proxy.kube.list_options import (
    ListOptions,
    _exact_name,
    is_label_selector,
    parse_list_options,
    read_int64,
)
from mk8s_proxy.kube.request_target import TargetRefusal
from tests.oracle.process import Oracle

LABEL_PIECES = st.sampled_from(
    ["a", "in", "notin", "b.c", "x.io/", "/", "X.io/", "-", "1", "9223372036854775807",
     "9223372036854775808", "00000000000000000000000001", "=", "==", "!=", "!", "(", ")", ",", ",",
     "<", ">", " ", "\t", "é", "a" * 63, "a" * 64, "in (a)", "a in (", ",)", "a=b", "a>1"]
)  # fmt: skip
FIELD_PIECES = st.sampled_from(
    [b"metadata.name", b"metadata.name=", b"=", b"==", b"!=", b"!", b",", b",", b"\\", b"\\,",
     b"\\=", b"\\\\", b"a", b"z", b".", b"..", b"/", b"%", b" ", b"\xc3\xa9", b"\n"]
)  # fmt: skip


@given(st.lists(LABEL_PIECES, max_size=10).map("".join))
@example("a in ()")
@example("a in (b c)")
@example("a in (,,)")
@example("a in (,,,)")
@example("a in (b,,)")
@example("in in (in,notin)")
@example("x.io/a notin (b) , !c")
@example(" ")
def test_label_selectors_parse_where_the_go_parser_parses_them(oracle: Oracle, text: str) -> None:
    assert is_label_selector(text) is oracle.labels(text.encode())


def test_a_label_selector_with_nul_never_parses() -> None:
    assert not is_label_selector("a \x00 anything")


@given(st.lists(FIELD_PIECES, max_size=8).map(b"".join))
def test_the_name_is_the_one_that_the_go_parser_finds(oracle: Oracle, selector: bytes) -> None:
    expected = b""
    for field, equal, value in oracle.fields(selector) or ():
        if equal and field == b"metadata.name":
            usable = value not in {b".", b".."} and b"/" not in value and b"%" not in value
            expected = value if usable else b""
            break
    assert _exact_name(selector) == expected


def test_empty_terms_say_nothing_of_the_name() -> None:
    assert _exact_name(b",metadata.name=a,") == b"a"
    assert _exact_name(b"metadata.name=a,,b") == b""


@given(st.text("+-0123456789 _", max_size=24).map(str.encode))
@example(b"9223372036854775807")
@example(b"9223372036854775808")
@example(b"-9223372036854775808")
@example(b"-9223372036854775809")
@example(b"0" * 5000 + b"1")
@example(b"1" * 5000)
@example(b"")
def test_int64_as_strconv_reads_it(oracle: Oracle, text: bytes) -> None:
    assert read_int64(text) == oracle.int64(text)


def test_no_query_asks_for_nothing() -> None:
    assert parse_list_options(b"") == ListOptions(False, "", "", "")


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (b"watch", ListOptions(watch=True)),
        (b"watch=False", ListOptions()),
        (b"watch=f", ListOptions(watch=True)),
        (b"fieldSelector=metadata.name%3Da+b", ListOptions(False, "a b", "metadata.name=a b")),
        (b"fieldSelector=metadata.name%3Dx&labelSelector=!!",
         ListOptions(False, "", "metadata.name=x", "!!")),
        (b"limit=&fieldSelector=metadata.name=x", ListOptions(False, "", "metadata.name=x")),
        (b"timeoutSeconds=1e3&fieldSelector=metadata.name=x",
         ListOptions(False, "", "metadata.name=x")),
        (b"command=a&command=b", ListOptions()),
        (b"a+b=%C5%BF&watch=FALSE", ListOptions()),
        (b"watch=0&watch=1", ListOptions()),
    ],
)  # fmt: skip
def test_options(query: bytes, options: ListOptions) -> None:
    assert parse_list_options(query) == options


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("watch=fal%C5%BFe", "BAD_BOOL"),
        ("limit=x&watch=fal%C5%BFe", "BAD_BOOL"),
        ("watch=%FF", "BAD_BOOL"),
        ("labelSelector=a%00b&fieldSelector=metadata.name%3Dmine", "BAD_SELECTOR"),
        ("fieldSelector=metadata.name%3D%FF", "BAD_SELECTOR"),
        ("fieldSelector=metadata.name%3D%5C,%E2%82", "BAD_SELECTOR"),
        ("labelSelector=%C0%80", "BAD_SELECTOR"),
        ("fieldSelector=" + ",".join(["a=b"] * 4097), "BAD_SELECTOR"),
    ],
)
def test_attack_an_option_that_kubernetes_reads_in_two_ways(query: str, reason: str) -> None:
    with pytest.raises(TargetRefusal) as refused:
        parse_list_options(query.encode())
    assert (refused.value.reason, refused.value.code) == (reason, 400)


@pytest.mark.parametrize(("limit", "verb"), [(b"", b"list"), (b"&limit=x", b"watch")])
def test_kubernetes_reads_false_with_a_long_s_in_two_ways(
    oracle: Oracle, limit: bytes, verb: bytes
) -> None:
    found = oracle.request(b"GET", b"/api/v1/pods?watch=fal%C5%BFe" + limit)
    assert found["verb"].encode() == verb
