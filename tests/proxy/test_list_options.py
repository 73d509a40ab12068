"""The options of a list, read as apimachinery reads them."""

import kubernetes_reference
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mk8s_proxy.kube.list_options import (
    ListOptions,
    _exact_name,
    is_int64,
    is_label_selector,
    parse_list_options,
)
from mk8s_proxy.kube.request_target import TargetRefusal

LABEL_PIECES = st.sampled_from(
    ["a", "in", "notin", "b.c", "x.io/", "/", "X.io/", "-", "1", "9223372036854775807",
     "9223372036854775808", "00000000000000000000000001", "=", "==", "!=", "!", "(", ")", ",", ",",
     "<", ">", " ", "\t", "é", "a" * 63, "a" * 64, "in (a)", "a in (", ",)", "a=b", "a>1"]
)  # fmt: skip
FIELD_PIECES = st.sampled_from(
    [b"metadata.name", b"metadata.name=", b"=", b"==", b"!=", b"!", b",", b",", b"\\", b"\\,",
     b"\\=", b"\\\\", b"a", b"z", b".", b"..", b"/", b"%", b" ", b"\xff", b"\xc3\xa9", b"\n"]
)  # fmt: skip


@settings(max_examples=15 * settings().max_examples)
@given(st.lists(LABEL_PIECES, max_size=10).map("".join))
@example("a in (,,)")
@example("a in (,,,)")
@example("a in (b,,)")
@example("in in (in,notin)")
@example("x.io/a notin (b) , !c")
@example(" ")
def test_label_selectors_parse_where_the_go_parser_parses_them(text: str) -> None:
    assert is_label_selector(text) is kubernetes_reference.labels_parse(text)


def test_a_label_selector_with_nul_never_parses() -> None:
    assert not is_label_selector("a \x00 anything")


@settings(max_examples=15 * settings().max_examples)
@given(st.lists(FIELD_PIECES, max_size=8).map(b"".join))
def test_the_name_is_the_one_that_the_go_parser_finds(selector: bytes) -> None:
    expected = b""
    for field, equal, value in kubernetes_reference.fields_parse(selector) or ():
        if equal and field == b"metadata.name":
            usable = value not in {b".", b".."} and b"/" not in value and b"%" not in value
            expected = value if usable else b""
            break
    assert _exact_name(selector) == expected


@given(st.text("+-0123456789 _", max_size=24).map(str.encode))
@example(b"9223372036854775807")
@example(b"9223372036854775808")
@example(b"-9223372036854775808")
@example(b"-9223372036854775809")
@example(b"0" * 5000 + b"1")
@example(b"1" * 5000)
@example(b"")
def test_int64_as_strconv_reads_it(text: bytes) -> None:
    assert is_int64(text) is (kubernetes_reference.parse_int64(text) is not None)


def test_no_query_asks_for_nothing() -> None:
    assert parse_list_options(b"") == ListOptions(False, "", "", "")


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (b"watch", ListOptions(watch=True)),
        (b"watch=False", ListOptions()),
        (b"watch=f", ListOptions(watch=True)),
        (b"fieldSelector=metadata.name%3Da+b", ListOptions(False, "a b", "metadata.name=a b")),
        (b"fieldSelector=metadata.name=%ff",
         ListOptions(name="\ufffd", field_selector="metadata.name=\ufffd")),
        (b"fieldSelector=metadata.name%3Dx&labelSelector=!!",
         ListOptions(False, "", "metadata.name=x", "!!")),
        (b"limit=&fieldSelector=metadata.name=x", ListOptions(False, "", "metadata.name=x")),
        (b"timeoutSeconds=1e3&fieldSelector=metadata.name=x",
         ListOptions(False, "", "metadata.name=x")),
        (b"command=a&command=b", ListOptions()),
        (b"watch=0&watch=1", ListOptions()),
    ],
)  # fmt: skip
def test_options(query: bytes, options: ListOptions) -> None:
    assert parse_list_options(query) == options


@pytest.mark.parametrize("query", ["watch=fal\u017fe", "watch=1\u0661", "watch=%C3%A9"])
def test_attack_a_watch_that_kubernetes_itself_reads_in_two_ways(query: str) -> None:
    """`strings.EqualFold` takes the long s for an s, `strings.ToLower` does not."""
    with pytest.raises(TargetRefusal, match="true or false"):
        parse_list_options(query.encode())
