"""Who the agent agrees to act as. Each attack of the header kind has its test here."""

import json
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.apiserver.impersonation import (
    AUTHENTICATED_GROUP,
    MARKER_GROUP,
    ImpersonationRefused,
    impersonation_headers,
)

GOOD: dict[str, object] = {"user": "dev@example.com", "groups": [MARKER_GROUP]}


def headers(**changes: object) -> tuple[tuple[bytes, bytes], ...]:
    return impersonation_headers(json.dumps(GOOD | changes).encode())


def refused(**changes: object) -> str:
    with pytest.raises(ImpersonationRefused) as caught:
        headers(**changes)
    return str(caught.value)


def test_all_parts_of_an_identity() -> None:
    assert headers(
        uid="7f3c",
        groups=["shop", MARKER_GROUP, "shop"],
        extra={"mk8s.io/login": "a1", "roles": ["x", "y"]},
    ) == (
        (b"impersonate-user", b"dev@example.com"),
        (b"impersonate-uid", b"7f3c"),
        (b"impersonate-group", b"shop"),
        (b"impersonate-group", b"mk8s:users"),
        (b"impersonate-group", b"system:authenticated"),
        (b"impersonate-extra-mk8s.io%2flogin", b"a1"),
        (b"impersonate-extra-roles", b"x"),
        (b"impersonate-extra-roles", b"y"),
    )


def test_the_least_identity() -> None:
    assert headers(uid="") == (
        (b"impersonate-user", b"dev@example.com"),
        (b"impersonate-group", b"mk8s:users"),
        (b"impersonate-group", b"system:authenticated"),
    )


def test_authenticated_may_be_named_and_is_sent_once() -> None:
    groups = [value for name, value in headers(groups=[AUTHENTICATED_GROUP, MARKER_GROUP])[1:]]
    assert groups == [b"mk8s:users", b"system:authenticated"]


def test_names_of_people_are_not_only_ascii() -> None:
    assert headers(user="jürgen müller")[0] == (b"impersonate-user", "jürgen müller".encode())


@pytest.mark.parametrize("user", ["", " ", "\t", None, ["a", "b"], [], {}, 0, True])
def test_empty_user_header_runs_as_the_service_account(user: object) -> None:
    """Kubernetes takes an empty Impersonate-User for none at all."""
    assert refused(user=user).startswith("user ")


def test_missing_user_runs_as_the_service_account() -> None:
    with pytest.raises(ImpersonationRefused, match="user is empty"):
        impersonation_headers(b'{"groups": ["mk8s:users"]}')


@pytest.mark.parametrize("groups", [None, [], {}, MARKER_GROUP, ["shop"], [AUTHENTICATED_GROUP]])
def test_lost_groups_leave_the_marker_out(groups: object) -> None:
    assert "group" in refused(groups=groups)


@pytest.mark.parametrize(
    "name",
    [
        "system:masters",
        "system:serviceaccount:kube-system:default",
        "system:node:n1",
        "system:anonymous",
        "SYSTEM:masters",
        "system:",
        "\u017fystem:masters",  # the long s, which case folding makes an s
    ],
)
def test_reserved_names_from_an_identity_provider(name: str) -> None:
    assert "reserved to Kubernetes" in refused(user=name)
    assert "reserved to Kubernetes" in refused(groups=[MARKER_GROUP, name])


@pytest.mark.parametrize("name", ["mk8s:admins", "mk8s:role:", "MK8S:users", "mk8s:agent:x"])
def test_attack_groups_of_mk8s_that_are_none_of_a_role(name: str) -> None:
    assert "reserved to mk8s" in refused(groups=[MARKER_GROUP, name])
    allowed = headers(groups=[MARKER_GROUP, "mk8s:role:a"])
    assert (b"impersonate-group", b"mk8s:role:a") in allowed


def test_authenticated_is_a_group_and_no_user() -> None:
    assert "reserved to Kubernetes" in refused(user=AUTHENTICATED_GROUP)


@pytest.mark.parametrize(
    "name",
    ["a\r\nImpersonate-Group: system:masters", "a\nb", "a\0b", "a\u2028b", "a\u202eb", "a\x7f",
     "\ud800", " a", "a ", "a\u00a0b", "x" * 257, "ü" * 129, "a" * 10_240],
)  # fmt: skip
def test_header_injection_through_a_name(name: str) -> None:
    for sentence in (
        refused(user=name),
        refused(uid=name),
        refused(groups=[MARKER_GROUP, name]),
    ):
        assert sentence.isprintable()
        assert sentence.isascii()
        assert len(sentence) < 200


@pytest.mark.parametrize("group", [None, 1, [], {}, ""])
def test_a_group_is_a_name(group: object) -> None:
    assert "group is empty or not a string" in refused(groups=[MARKER_GROUP, group])


@pytest.mark.parametrize("uid", [None, 7, ["a"]])
def test_a_uid_is_a_string(uid: object) -> None:
    assert "uid is empty or not a string" in refused(uid=uid)


@pytest.mark.parametrize(
    "key",
    ["", "Upper", "a b", "a\r\nb", "a\0", "ä", "a_b\n", "x" * 129, "%2f", "a=b"],
)
def test_extra_key_that_becomes_another_header(key: str) -> None:
    assert "is not lower-case ASCII" in refused(extra={key: "v"})


@pytest.mark.parametrize(
    "key",
    ["authentication.kubernetes.io/node-name", "kubernetes.io/x", "k8s.io", "a.k8s.io/b"],
)
def test_extra_key_that_claims_a_node(key: str) -> None:
    assert "reserved to Kubernetes" in refused(extra={key: "v"})


def test_extra_key_underscore_taken_for_a_dash() -> None:
    assert headers(extra={"a_b": "v"})[-1] == (b"impersonate-extra-a%5fb", b"v")


@pytest.mark.parametrize("extra", [None, [], "x", {"a": ""}, {"a": 1}, {"a": ["v", "\n"]}])
def test_extra_values_are_strings(extra: object) -> None:
    assert refused(extra=extra).startswith("extra ")


@pytest.mark.parametrize(
    ("identity", "sentence"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 30_000, "not JSON"),
        (b'{"user": "a"', "not JSON"),
        (b"null", "not a JSON object"),
        (b'"dev@example.com"', "not a JSON object"),
        (b'{"user":"a","user":"b","groups":["mk8s:users"]}', "names a member twice"),
        (b'{"user":"a","groups":["mk8s:users"],"as":"root"}', "unknown member 'as'"),
        (b'{"user":"' + b"a" * 40_000 + b'"}', "longer than 32768 bytes"),
    ],
)
def test_forged_identity_frame(identity: bytes, sentence: str) -> None:
    with pytest.raises(ImpersonationRefused, match=sentence):
        impersonation_headers(identity)


def test_a_refusal_is_not_remembered_as_an_answer() -> None:
    assert refused(user="") == refused(user="")


def assert_sound(result: tuple[tuple[bytes, bytes], ...]) -> None:
    names = [name for name, _ in result]
    assert names.count(b"impersonate-user") == 1
    assert names.count(b"impersonate-uid") <= 1
    groups = [value for name, value in result if name == b"impersonate-group"]
    assert MARKER_GROUP.encode() in groups
    assert groups.count(AUTHENTICATED_GROUP.encode()) == 1
    for name, value in result:
        assert name.startswith(b"impersonate-")
        assert b"_" not in name
        assert value
        assert value == value.strip()
        assert not any(byte < 0x20 or byte == 0x7F for byte in name + value)
        if not name.startswith((b"impersonate-extra-", b"impersonate-uid")):
            assert value == AUTHENTICATED_GROUP.encode() or not value.startswith(b"system:")


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_but_be_refused(identity: bytes) -> None:
    with pytest.raises(ImpersonationRefused):
        impersonation_headers(identity)


names = st.text(max_size=30) | st.sampled_from(["system:masters", MARKER_GROUP, "a@b.c", " "])
values = st.none() | st.integers() | names | st.lists(names, max_size=3)


@given(
    st.fixed_dictionaries(
        {"user": values, "groups": st.lists(names, max_size=4).map(lambda it: [MARKER_GROUP, *it])},
        optional={"uid": values, "extra": st.dictionaries(names, values, max_size=3), "x": values},
    )
)
def test_what_passes_is_sound(identity: dict[str, object]) -> None:
    try:
        result = impersonation_headers(json.dumps(identity).encode())
    except ImpersonationRefused:
        return
    assert_sound(result)


plain = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_@/:~!$&'*+^`|", min_size=1, max_size=40)


@given(user=plain, uid=plain, groups=st.lists(plain), extra=st.dictionaries(plain, plain))
def test_a_good_identity_arrives_whole(
    user: str, uid: str, groups: list[str], extra: dict[str, str]
) -> None:
    identity = {"user": user, "uid": uid, "groups": [*groups, MARKER_GROUP], "extra": extra}
    if any(name.startswith("system:") for name in (user, *groups)):
        return
    if any("k8s.io" in key or "kubernetes.io" in key for key in extra):
        return
    result = impersonation_headers(json.dumps(identity).encode())
    assert_sound(result)
    assert (b"impersonate-user", user.encode()) in result
    arrived = {
        unquote_to_bytes(name.removeprefix(b"impersonate-extra-")).decode(): value.decode()
        for name, value in result
        if name.startswith(b"impersonate-extra-")
    }
    assert arrived == extra
