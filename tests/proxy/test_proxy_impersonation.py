"""Acting as somebody else: what the headers may say, who may, and what the cluster is told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.apiserver.impersonation import ImpersonationRefused, impersonation_headers
from mk8s_agent.wire import headers as internal
from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.stream import Stream
from mk8s_proxy.audit.event import AuditEntry
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.authz.attributes import Attributes, Decision
from mk8s_proxy.authz.policy import PolicySource, parse_role
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.chain.impersonation import ORIGINAL_USER, act_as, may_act
from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.listener.exchange import Exchange, facts_of
from mk8s_proxy.listener.http1_head import read_http1_head
from mk8s_proxy.listener.refusals import HeaderRefusal
from mk8s_proxy.listener.request_head import read_http2_head
from mk8s_proxy.tunnel.request_block import AUDIT_FIELD, request_parts

Fields = tuple[tuple[bytes, bytes], ...]
USER = b"impersonate-user"
ALICE = (USER, b"alice@example.com")


def person(user: str = "dev@example.com") -> Identity:
    return Identity(user, "u-1", ("mk8s:users",), 1e12, "", "t-1", 3, name="Dev")


def refusal(*fields: tuple[bytes, bytes]) -> str:
    with pytest.raises(HeaderRefusal) as refused:
        act_as(person(), fields)
    assert refused.value.code == 403
    return refused.value.reason


def policy(
    *rules: dict[str, Any], roles: dict[str, tuple[str, ...]] | None = None
) -> PolicySnapshot:
    role = parse_role("r", [{"name": "prod", **rule} for rule in rules])
    users = {"dev@example.com": ("r",), **(roles or {})}
    return PolicySnapshot(PolicySource([role], users, {"prod": {}, "other": {}}))


def arrived() -> Exchange:
    """A request whose head has come."""
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"c")]
    entry = AuditEntry(AuditId("i" * 36), 0.0)
    return Exchange(Stream(None, 1, 0, 0), read_http2_head(fields, True), entry)


def sent(identity: Identity, exchange: Exchange | None = None) -> dict[bytes, list[bytes]]:
    """The headers that reach the API server for this identity, built by the agent's own code."""
    exchange = exchange or arrived()
    parts = request_parts(exchange, identity, hpack_codec.literal(b":path", b"/"))
    block = (AUDIT_FIELD + exchange.entry.audit_id.encode()).join(parts)
    head = dict(hpack_codec.Decoder(0, 65536).decode(block))
    found: dict[bytes, list[bytes]] = {}
    for name, value in impersonation_headers(head[internal.IDENTITY]):
        found.setdefault(name, []).append(value)
    return found


def test_the_groups_of_roles_go_along_and_into_the_row() -> None:
    exchange = arrived()
    roles = ("mk8s:role:a", "mk8s:role:b")
    exchange.decision = Decision(True, "allowed by role a, rule 1", groups=roles)
    for identity in (person(), person(), act_as(person(), (ALICE,))):
        exchange.identity = identity
        groups = sent(identity, exchange)[b"impersonate-group"]
        assert groups == [b"mk8s:users", b"mk8s:role:a", b"mk8s:role:b", b"system:authenticated"]
        facts = facts_of(exchange, "allow", "")
        other = facts.impersonated
        assert facts.groups == ("mk8s:users", *(roles if other is None else ()))
        assert other is None or other.groups == ("mk8s:users", *roles)


# What is sent when all is well.


def test_the_cluster_sees_the_other_user_and_learns_who_asks() -> None:
    acting = act_as(person(), (ALICE,))
    assert sent(acting) == {
        USER: [b"alice@example.com"],
        b"impersonate-group": [b"mk8s:users", b"system:authenticated"],
        b"impersonate-extra-mk8s.io%2foriginal-user": [b"dev@example.com"],
    }


def test_groups_uid_and_extra_travel_whole() -> None:
    acting = act_as(
        person(),
        (
            ALICE,
            (b"impersonate-group", b"devs"),
            (b"impersonate-group", "équipe à".encode()),
            (b"impersonate-group", b"devs"),
            (b"impersonate-group", b"system:authenticated"),
            (b"impersonate-uid", b"42"),
            (b"impersonate-extra-reason", b"ticket 7"),
            (b"impersonate-extra-reason", b"ticket 8"),
            (b"impersonate-extra-acme.example%2fscope", b"view"),
        ),
    )
    assert sent(acting) == {
        USER: [b"alice@example.com"],
        b"impersonate-uid": [b"42"],
        b"impersonate-group": [
            b"mk8s:users",
            b"devs",
            "équipe à".encode(),
            b"system:authenticated",
        ],
        b"impersonate-extra-reason": [b"ticket 7", b"ticket 8"],
        b"impersonate-extra-acme.example%2fscope": [b"view"],
        b"impersonate-extra-mk8s.io%2foriginal-user": [b"dev@example.com"],
    }


def test_oneself_is_sent_without_extra() -> None:
    assert set(sent(person())) == {USER, b"impersonate-uid", b"impersonate-group"}


def test_an_acting_identity_shares_nothing_with_the_real_one() -> None:
    real = person()
    acting = act_as(real, (ALICE,))
    assert acting.name == ""
    assert acting.original is real
    assert (acting.uid, acting.epoch, acting.expires) == ("", real.epoch, real.expires)


def test_the_same_headers_give_an_equal_identity_and_others_another() -> None:
    real = person()
    first = act_as(real, (ALICE,))
    assert act_as(real, (ALICE,)) == first
    assert act_as(real, (ALICE, (b"impersonate-group", b"devs"))) != first


# Attacks on the headers.


def test_attack_empty_user() -> None:
    assert refusal((USER, b"")) == "IMPERSONATION_HEADER"
    assert refusal((USER, b""), (b"impersonate-group", b"devs")) == "IMPERSONATION_HEADER"


@pytest.mark.parametrize(
    "user", [b" ", b"\t", b"\xc2\xa0", b" alice@example.com", b"alice@example.com "]
)
def test_attack_user_of_spaces(user: bytes) -> None:
    assert refusal((USER, user)) == "IMPERSONATION_HEADER"


def test_attack_two_users() -> None:
    assert refusal(ALICE, (USER, b"bob@example.com")) == "IMPERSONATION_HEADER"
    assert refusal(ALICE, ALICE) == "IMPERSONATION_HEADER"


def test_attack_two_uids() -> None:
    uid = (b"impersonate-uid", b"1")
    assert refusal(ALICE, uid, uid) == "IMPERSONATION_HEADER"


@pytest.mark.parametrize("name", [b"impersonate-group", b"impersonate-uid", b"impersonate-extra-x"])
def test_attack_anything_without_a_user(name: bytes) -> None:
    assert refusal((name, b"devs")) == "IMPERSONATION_USER"


@pytest.mark.parametrize(
    "user",
    [
        "system:admin",
        "system:masters",
        "system:serviceaccount:kube-system:default",
        "system:node:n",
        "system:authenticated",
        "system:",
        "\u017fystem:masters",  # casefolds to "system:masters"
    ],
)
def test_attack_system_user(user: str) -> None:
    assert refusal((USER, user.encode())) == "IMPERSONATION_RESERVED"


@pytest.mark.parametrize("group", ["mk8s:role:admin", "MK8S:role:admin", "mk8s:probe"])
def test_attack_the_group_of_a_role_that_one_does_not_have(group: str) -> None:
    """It would be a right in the cluster's own RBAC, whatever groups a rule lets one act with."""
    assert refusal(ALICE, (b"impersonate-group", group.encode())) == "IMPERSONATION_RESERVED"
    assert refusal((USER, b"mk8s:users")) == "IMPERSONATION_RESERVED"
    acting = act_as(person(), (ALICE, (b"impersonate-group", b"mk8s:users")))
    assert acting.groups == ("mk8s:users",)


@pytest.mark.parametrize(
    "group", ["system:masters", "SYSTEM:MASTERS", "system:nodes", "\u017fystem:x"]
)
def test_attack_system_group(group: str) -> None:
    assert refusal(ALICE, (b"impersonate-group", group.encode())) == "IMPERSONATION_RESERVED"


@pytest.mark.parametrize(
    "text",
    [b"a\r\nimpersonate-group: system:masters", b"a\nb", b"a\0b", b"a\x7fb", "a\u2028b".encode(),
     "a\u202eb".encode(), b"\xff\xfe", b"\xed\xa0\x80"],
)  # fmt: skip
@pytest.mark.parametrize(
    "name", [USER, b"impersonate-group", b"impersonate-uid", b"impersonate-extra-x"]
)
def test_attack_line_ends_and_other_invisible_bytes(name: bytes, text: bytes) -> None:
    assert refusal(ALICE, (name, text)) == "IMPERSONATION_HEADER"


@pytest.mark.parametrize(
    "name", [USER, b"impersonate-group", b"impersonate-uid", b"impersonate-extra-x"]
)
def test_attack_name_of_ten_kilobytes(name: bytes) -> None:
    assert refusal((name, b"a" * 10_240)) == "IMPERSONATION_HEADER"


def test_attack_many_headers() -> None:
    groups = [(b"impersonate-group", b"g%d" % number) for number in range(64)]
    assert refusal(ALICE, *groups) == "IMPERSONATION_HEADER"
    assert len(act_as(person(), (ALICE, *groups[:-1])).groups) == 64


def test_attack_another_spelling_of_a_user_dodges_a_denial() -> None:
    assert refusal((USER, b"Alice@example.com")) == "IMPERSONATION_CASE"
    assert refusal((USER, "\u212aate@example.com".encode())) == "IMPERSONATION_CASE"  # Kelvin sign


@pytest.mark.parametrize(
    "name",
    [b"impersonate", b"impersonate-", b"impersonate-users", b"impersonate-user-",
     b"impersonate-extra-", b"impersonate-extra", b"impersonatee-user",
     b"impersonate-extra-a%2", b"impersonate-extra-%zz",
     b"impersonate-extra-%41", b"impersonate-extra-%00", b"impersonate-extra-%0d%0a",
     b"impersonate-extra-%c3%a9", b"impersonate-extra-%ff", b"impersonate-extra-a#b",
     b"impersonate-extra-" + b"k" * 129],
)  # fmt: skip
def test_attack_header_that_means_nothing_is_not_ignored(name: bytes) -> None:
    assert refusal(ALICE, (name, b"x")) == "IMPERSONATION_HEADER"


@pytest.mark.parametrize(
    "key",
    [b"mk8s.io%2foriginal-user", b"mk8s.io/original-user", b"mk8s.io", b"a.mk8s.io%2fx",
     b"authentication.kubernetes.io%2fnode-name", b"k8s.io%2fx", b"kubernetes.io"],
)  # fmt: skip
def test_attack_forged_original_user(key: bytes) -> None:
    if b"/" in key:  # no header name, so never read
        assert refusal(ALICE, (b"impersonate-extra-" + key, b"x")) == "IMPERSONATION_HEADER"
    else:
        assert refusal(ALICE, (b"impersonate-extra-" + key, b"x")) == "IMPERSONATION_RESERVED"


HTTP1 = [(b"Host", b"c"), (b"Authorization", b"Bearer A")]


@pytest.mark.parametrize("name", [b"Impersonate-User", b"iMPERSONATE-uSER", b"IMPERSONATE-USER"])
def test_attack_case_variants_are_the_same_header(name: bytes) -> None:
    head = read_http1_head(b"GET", b"/", [*HTTP1, (name, b"alice@example.com")])
    assert head.impersonation == (ALICE,)


@pytest.mark.parametrize(
    "name", [b"Impersonate_User", b"impersonate_group", b"Impersonate-Extra_x"]
)
def test_attack_underscore_variants_are_no_header(name: bytes) -> None:
    with pytest.raises(HeaderRefusal) as refused:
        read_http1_head(b"GET", b"/", [*HTTP1, (name, b"alice")])
    assert refused.value.reason == "UNDERSCORE_HEADER"


@pytest.mark.parametrize("option", [b"Impersonate-User", b"close, impersonate-group"])
def test_attack_connection_names_an_impersonation_header(option: bytes) -> None:
    with pytest.raises(HeaderRefusal) as refused:
        read_http1_head(b"GET", b"/", [*HTTP1, (b"Connection", option), ALICE])
    assert refused.value.reason == "CONNECTION_OPTION"


NAMES = [
    USER,
    b"impersonate-group",
    b"impersonate-uid",
    b"impersonate-extra-a",
    b"impersonate-extra-a%2fb",
]
values = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=8).map(str.encode),
    st.sampled_from(
        [b"alice@example.com", b"devs", b"system:masters", b"system:authenticated", b""]
    ),
)
names = st.one_of(
    st.sampled_from(NAMES), st.binary(max_size=6).map(lambda tail: b"impersonate" + tail)
)


@given(st.lists(st.tuples(names, values), min_size=1, max_size=6).map(tuple))
def test_whatever_the_headers_they_apply_whole_or_are_refused(fields: Fields) -> None:
    """The agent's wall never has to catch what central let through, and nothing gets lost."""
    try:
        acting = act_as(person(), fields)
    except HeaderRefusal:
        return
    try:
        found = sent(acting)
    except ImpersonationRefused as error:
        raise AssertionError(f"the agent refuses what central allowed: {error}") from error
    assert found[USER] == [dict(fields)[USER]]
    for name, value in fields:
        reached = {key.lower(): texts for key, texts in found.items()}
        assert value in reached[name]
    assert b"mk8s:users" in found[b"impersonate-group"]


# Who may.


def questions(*fields: tuple[bytes, bytes], rule: dict[str, Any], cluster: str = "prod") -> bool:
    acting = act_as(person(), (ALICE, *fields))
    return may_act(policy(rule), acting, cluster)[1].allowed


def test_a_role_must_name_the_user() -> None:
    assert questions(rule={"impersonate": {"users": ["alice@example.com"]}})
    assert questions(rule={"impersonate": {"users": ["*@example.com"]}})
    assert not questions(rule={"impersonate": {"users": ["bob@example.com"]}})
    assert not questions(rule={"impersonate": {"groups": ["*"]}})
    everything = {"namespaces": ["*"], "verbs": ["*"], "resources": ["*", "*/*"]}
    assert not questions(rule=everything)


def test_a_role_holds_on_its_clusters_only() -> None:
    assert not questions(rule={"impersonate": {"users": ["*"]}}, cluster="other")


def test_each_group_must_be_allowed() -> None:
    rule = {"impersonate": {"users": ["*"], "groups": ["dev*"]}}
    assert questions((b"impersonate-group", b"devs"), rule=rule)
    assert not questions((b"impersonate-group", b"devs"), (b"impersonate-group", b"ops"), rule=rule)


def test_groups_that_everybody_has_need_no_rule() -> None:
    rule = {"impersonate": {"users": ["*"]}}
    everybody = [(b"impersonate-group", name) for name in (b"mk8s:users", b"system:authenticated")]
    assert questions(*everybody, rule=rule)


def test_uid_and_extra_come_with_an_allowed_user() -> None:
    more = [(b"impersonate-uid", b"1"), (b"impersonate-extra-reason", b"x")]
    assert questions(*more, rule={"impersonate": {"users": ["*"]}})
    assert not questions(*more, rule={"impersonate": {"users": ["bob@example.com"]}})


def test_a_denial_wins() -> None:
    snapshot = policy(
        {"impersonate": {"users": ["*"], "groups": ["*"]}},
        {"deny": True, "impersonate": {"users": ["alice@*"], "groups": ["root*"]}},
    )
    asked, decision = may_act(snapshot, act_as(person(), (ALICE,)), "prod")
    assert (asked, decision.allowed) == (
        Attributes("impersonate", resource="users", name="alice@example.com"),
        False,
    )
    rooted = act_as(person(), ((USER, b"bob@example.com"), (b"impersonate-group", b"roots")))
    asked, decision = may_act(snapshot, rooted, "prod")
    assert (asked.resource, asked.name, decision.allowed) == ("groups", "roots", False)


def test_the_real_users_roles_decide_and_not_those_of_the_one_acted_as() -> None:
    """Acting as somebody who may impersonate gives nothing more to impersonate."""
    snapshot = policy({"impersonate": {"users": ["*"]}}, roles={"boss@example.com": ("r",)})
    nobody = person("nobody@example.com")
    assert not may_act(snapshot, act_as(nobody, ((USER, b"boss@example.com"),)), "prod")[1].allowed
    assert may_act(snapshot, act_as(person(), ((USER, b"boss@example.com"),)), "prod")[1].allowed


def test_the_original_user_cannot_be_replaced() -> None:
    assert act_as(person(), (ALICE,)).extra == {ORIGINAL_USER: ("dev@example.com",)}
