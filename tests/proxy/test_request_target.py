"""The request target: what two parsers could read differently never passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_lines import CASES, request_lines

from mk8s_proxy.kube import request_target
from mk8s_proxy.kube.request_target import (
    CHECK_ORDER,
    MAXIMUM_PAIRS,
    MAXIMUM_PATH,
    MAXIMUM_TARGET,
    MAXIMUM_WORDS,
    METHODS,
    RequestTarget,
    TargetRefusal,
    parse_target,
)
from tests.oracle.process import Oracle

LATE_REASONS = ("SPECIAL_VERB", "LEGACY_PROXY", "BAD_GROUP", "BAD_VERSION", "BAD_NAMESPACE",
                "BAD_RESOURCE", "BAD_SUBRESOURCE")  # fmt: skip


def outcome(method: bytes, target: bytes, parse=parse_target) -> RequestTarget | tuple[str, int]:
    try:
        return parse(method, target)
    except TargetRefusal as refusal:
        return refusal.reason, refusal.code


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_row_of_the_conformance_table(case) -> None:
    target = case["target"].encode("utf-8")
    found = outcome(case["method"].encode(), target)
    reason = case.get("reject_reason", "")
    if reason and not reason.startswith(LATE_REASONS):
        assert found == (reason, case["reject_status"])
    else:
        assert isinstance(found, RequestTarget)
        assert found.raw == target


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"", "TARGET_FORM"),
        (b"*", "TARGET_FORM"),
        (b"api/v1/pods", "TARGET_FORM"),
        (b"http://evil.example/api", "TARGET_FORM"),
        (b"/a b", "RAW_ILLEGAL"),
        (b"/a#b", "RAW_ILLEGAL"),
        (b"/a\\b", "RAW_ILLEGAL"),
        (b'/a"b', "RAW_ILLEGAL"),
        (b"/a<b", "RAW_ILLEGAL"),
        (b"/a[b]", "RAW_ILLEGAL"),
        (b"/a\r\nHost: x", "RAW_ILLEGAL"),
        (b"/a\x00", "RAW_ILLEGAL"),
        (b"/\xc3\xa9", "RAW_ILLEGAL"),
        (b"/a?x=\xc3\xa9", "RAW_ILLEGAL"),
        (b"/a?x=a#b", "RAW_ILLEGAL"),
        (b"/a?x=\\", "RAW_ILLEGAL"),
        (b"/a%", "BAD_PCT"),
        (b"/a%2", "BAD_PCT"),
        (b"/a%g0", "BAD_PCT"),
        (b"/a%00", "CONTROL"),
        (b"/a%1f", "CONTROL"),
        (b"/a%0d%0a", "CONTROL"),
        (b"/a%7f", "CONTROL"),
        (b"/a%2fb", "ENC_SLASH"),
        (b"/a%2Fb", "ENC_SLASH"),
        (b"/a%252Fb", "ENC_PERCENT"),
        (b"/a%5cb", "ENC_BACKSLASH"),
        (b"/a%3fwatch=1", "ENC_QUESTION"),
        (b"/a%23b", "ENC_HASH"),
        (b"/a;v=1", "SEMICOLON"),
        (b"/a%3Bv=1", "SEMICOLON"),
        (b"/a%c0%ae", "BAD_UTF8"),
        (b"/a%ff", "BAD_UTF8"),
        (b"/a%ed%a0%80", "BAD_UTF8"),
        (b"//a", "EMPTY_SEGMENT"),
        (b"/a//", "EMPTY_SEGMENT"),
        (b"//", "EMPTY_SEGMENT"),
        (b"/.", "DOT_SEGMENT"),
        (b"/..", "DOT_SEGMENT"),
        (b"/../", "DOT_SEGMENT"),
        (b"/a/./b", "DOT_SEGMENT"),
        (b"/a/..?x=1", "DOT_SEGMENT"),
        (b"/a/%2e%2E/b", "DOT_SEGMENT"),
        (b"/a/.%2e", "DOT_SEGMENT"),
        (b"/p%6fds", "NEEDLESS_ENC"),
        (b"/%5f", "NEEDLESS_ENC"),
        (b"/%7E", "NEEDLESS_ENC"),
        (b"/%30", "NEEDLESS_ENC"),
        (b"/a?x=1;y=2", "SEMICOLON"),
        (b"/a?x=%zz", "BAD_PCT"),
        (b"/a?" + b"&" * 10_000, "MANY_PARAMS"),
        (b"/a?" + b"&" * 256, "MANY_PARAMS"),
        (b"/a?&x=1&&x=1", "DUP_PARAM"),
        (b"/a?=1&&=1", "DUP_PARAM"),
        (b"/a?x=1&x=1", "DUP_PARAM"),
        (b"/a?watch=1&%77atch=0", "DUP_PARAM"),
        (b"/a?a+b=1&a%20b=2", "DUP_PARAM"),
        (b"/a?x&x", "DUP_PARAM"),
        (b"/%C3%A9?x=1&x=2", "DUP_PARAM"),
    ],
)  # fmt: skip
def test_smuggled_target(target: bytes, reason: str) -> None:
    assert outcome(b"GET", target) == (reason, 400)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", b""),
        (b"/?", "/", b""),
        (b"/a/b/", "/a/b/", b""),
        (b"/...", "/...", b""),
        (b"/.well-known/x", "/.well-known/x", b""),
        (b"/..a/b..", "/..a/b..", b""),
        (b"/a:8080/@b/*", "/a:8080/@b/*", b""),
        (b"/a%3A80", "/a:80", b""),
        (b"/a%20b", "/a b", b""),
        (b"/a+b%2Bc", "/a+b+c", b""),
        (b"/%C3%A9", "/é", b""),
        (b"/a?/?[]|{}^`", "/a", b"/?[]|{}^`"),
        (b"/a?x=%00", "/a", b"x=%00"),
        (b"/a?x=%3B", "/a", b"x=%3B"),
        (b"/a?&watch=true", "/a", b"&watch=true"),  # what kube-rs sends
        (b"/a?&x=1&&y=%20&", "/a", b"&x=1&&y=%20&"),
        (b"/a?" + b"&" * 255, "/a", b"&" * 255),
        (b"/a?&=1&", "/a", b"&=1&"),
        (b"/a?command=sh&command=-c", "/a", b"command=sh&command=-c"),
        (b"/a?ports=1&ports=2", "/a", b"ports=1&ports=2"),
        (b"/a?match%5B%5D=a&match[]=b", "/a", b"match%5B%5D=a&match[]=b"),
        (b"/a?x=1&X=1", "/a", b"x=1&X=1"),
    ],
)
def test_target_that_all_parsers_read_alike(target: bytes, path: str, query: bytes) -> None:
    assert parse_target(b"GET", target) == RequestTarget(target, path, query)


def test_a_refusal_tells_what_to_do() -> None:
    with pytest.raises(TargetRefusal, match="start with a slash") as refused:
        parse_target(b"GET", b"api")
    assert refused.value.message == str(refused.value)


@pytest.mark.parametrize("method", [b"", b"get", b"OPTIONS", b"CONNECT", b"LIST", b"GET "])
def test_method_that_kubernetes_has_no_verb_for(method: bytes) -> None:
    assert outcome(method, b"/api") == ("METHOD", 405)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_known_method(method: bytes) -> None:
    assert isinstance(outcome(method, b"/api"), RequestTarget)


def test_path_at_and_over_its_length() -> None:
    longest = b"/" + b"a" * (MAXIMUM_PATH - 1)
    assert isinstance(outcome(b"GET", longest), RequestTarget)
    assert outcome(b"GET", longest + b"a") == ("LENGTH", 400)
    assert outcome(b"GET", longest + b"a?x=1") == ("LENGTH", 400)


def test_target_at_and_over_its_length() -> None:
    longest = b"/exec?command=" + b"a" * (MAXIMUM_TARGET - 14)
    assert isinstance(outcome(b"GET", longest), RequestTarget)
    assert outcome(b"GET", longest + b"a") == ("LENGTH", 400)


@pytest.mark.parametrize("filler", [b"", b"command=x", b"dryRun=All"])
@pytest.mark.parametrize(
    ("method", "meant"),
    [
        (b"GET", b"fieldSelector=metadata.name%3Dmine"),
        (b"GET", b"watch=1"),
        (b"DELETE", b"labelSelector=a%3Db"),
        (b"DELETE", b"dryRun=All"),
    ],
)
def test_attack_a_query_with_so_many_pairs_that_go_drops_it(
    oracle: Oracle, method: bytes, meant: bytes, filler: bytes
) -> None:
    target = b"/api/v1/namespaces/shop/secrets?" + meant
    flood = target + b"&" + b"&".join([filler] * 10_000)
    read = oracle.request(method, flood)
    assert (read["name"], read["field_selector"], read["label_selector"]) == (b"", b"", b"")
    assert read["verb"] != "watch"
    assert not read.get("delete")
    assert isinstance(outcome(method, target), RequestTarget)
    assert outcome(method, flood) in {("MANY_PARAMS", 400), ("LENGTH", 400)}


def test_reasons_are_those_of_the_check_order() -> None:
    raised = {case["reject_reason"] for case in CASES if "reject_reason" in case}
    early = {reason for reason in raised if not reason.startswith(LATE_REASONS)}
    assert early <= set(CHECK_ORDER)


@given(request_lines())
def test_the_fast_path_agrees_with_the_careful_one(line: tuple[bytes, bytes]) -> None:
    careful = outcome(*line, parse=request_target._parse_carefully)
    assert outcome(*line) == careful


@given(st.binary(max_size=12), st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(method: bytes, target: bytes) -> None:
    outcome(method, target)
    found = outcome(b"GET", b"/" + target)
    assert isinstance(found, tuple) or found.raw == b"/" + target


def pairs(count: int, pair: bytes = b"") -> bytes:
    return b"&".join(pair or b"x%d=1" % number for number in range(count))


def test_attack_so_many_parameters_that_go_reads_none() -> None:
    """CVE-2025-61726's bound: a selector in front of 10,000 pairs is judged and not applied."""
    judged = b"/api/v1/secrets?fieldSelector=metadata.name=mine&"
    for many in (pairs(9_999, b"x"), b"&" * 10_000, pairs(300), pairs(5_000, b"command=a")):
        with pytest.raises(TargetRefusal, match="parameters") as refused:
            parse_target(b"GET", judged + many)
        assert refused.value.reason == "MANY_PARAMS"


def test_as_many_parameters_as_anybody_needs_pass() -> None:
    assert parse_target(b"GET", b"/a?" + pairs(MAXIMUM_PAIRS)).path == "/a"
    with pytest.raises(TargetRefusal):
        parse_target(b"GET", b"/a?" + pairs(MAXIMUM_PAIRS + 1))


def test_a_command_of_many_words_passes() -> None:
    words = pairs(MAXIMUM_WORDS, b"command=a")
    assert parse_target(b"GET", b"/a?container=c&" + words + b"&stdout=true").path == "/a"
    with pytest.raises(TargetRefusal):
        parse_target(b"GET", b"/a?command=a&" + words)
