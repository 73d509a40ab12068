"""Audit rows, composed of remembered pieces: the bytes of `plain_rows` in a third of its time.

Users, clients, paths and rules repeat. So the JSON of what a row says of each is made once, as a
pure function of its strings, and remembered; a row is those pieces and what is new in it: id,
times and counts. Requests that share their facts share the JSON of all of them, too; whoever
remembers such requests keeps it (`texts_of`). No other entry holds any of its row: a watch of an
hour has none in memory.

An entry with text that is long or not ASCII, or with an impersonated user, is odd: `plain_rows`
makes its rows. So the pieces are short, and their memories bound them in number and bytes.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from mk8s_agent.wire.memory import Memory
from mk8s_proxy.audit import plain_rows
from mk8s_proxy.audit.event import AuditEntry, AuditFacts, RowTexts
from mk8s_proxy.audit.plain_rows import FIRST_FAILURE, MAX_GROUPS, MAX_TEXT
from mk8s_proxy.audit.redaction import redact_uri
from mk8s_proxy.audit.timestamps import timestamps

_REMEMBERED: Final = 4096
_CALLERS: Final = 16384
"""As many as tokens are remembered."""
_MAX_GROUPS_TEXT: Final = 4096
"""Characters of all groups of a user together."""
_REFERENCE: Final = ("resource", "namespace", "name", "apiGroup", "apiVersion", "subresource")
_NOTES: Final = (
    "authorization.k8s.io/reason", "mk8s.io/cluster", "mk8s.io/method", "mk8s.io/token-id",
    "mk8s.io/client-audit-id",
)  # fmt: skip
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\x7f-\U0010ffff]{0,512}')
"""Text that is its own JSON."""
_PIECE_BYTES: Final = 800
"""What a piece and its key hold beside the text."""

_Who = tuple[str, str, tuple[str, ...], str]
_requests: Final[Memory[tuple[str, ...], tuple[str, str]]] = Memory(_REMEMBERED, 8 << 20)
"""Buys 9 % of a request with a known target (compiled 5 %)."""
_annotations: Final[Memory[tuple[str, ...], str]] = Memory(_CALLERS, 32 << 20)
"""Buys 5 % of a request with a new target."""
_callers: Final[Memory[_Who, str]] = Memory(_CALLERS, 32 << 20)
"""Buys 6 to 7 % of a request with a new head (compiled 4 %)."""


class _Odd(Exception):
    """The row cannot be composed, or not of pieces that are worth remembering."""


def encode_intent(entry: AuditEntry, now: float) -> bytes:
    """The RequestReceived row: one line of ASCII with its line feed.

    Args:
        entry: of a request that is about to be sent to a cluster.
        now: seconds since the epoch.
    """
    try:
        return _compose(entry, "RequestReceived", now, "}}\n")
    except _Odd:
        return plain_rows.encode_intent(entry, now)


def encode_outcome(entry: AuditEntry, now: float) -> bytes:
    """The ResponseComplete row: one line of ASCII with its line feed.

    Args:
        entry: of a request that ended, or that was refused.
        now: seconds since the epoch.
    """
    milliseconds = "%.3f" % (entry.duration * 1000)
    failure = ',"status":"Failure"' if entry.code >= FIRST_FAILURE else ""
    try:
        refusal = f",{_members({'mk8s.io/refusal': entry.refusal})}" if entry.refusal else ""
        ending = (
            f',"mk8s.io/bytes-in":"{entry.bytes_in}","mk8s.io/bytes-out":"{entry.bytes_out}",'
            f'"mk8s.io/duration-ms":"{milliseconds}"{refusal}}},'
            f'"responseStatus":{{"metadata":{{}},"code":{entry.code}{failure}}}}}\n'
        )
        return _compose(entry, "ResponseComplete", now, ending)
    except _Odd:
        return plain_rows.encode_outcome(entry, now)


def texts_of(facts: AuditFacts) -> RowTexts | None:
    """What the rows of requests with these facts share, to be kept in their entries.

    Returns:
        None where the rows are odd.
    """
    if facts.impersonated is not None:
        return None
    asked = (
        facts.request_uri, facts.verb, facts.resource, facts.namespace, facts.name,
        facts.api_group, facts.api_version, facts.subresource,
    )  # fmt: skip
    who = (facts.user, facts.uid, facts.groups, facts.user_agent)
    said = (
        facts.decision, facts.reason, facts.cluster, facts.method, facts.token_id,
        facts.client_audit_id,
    )  # fmt: skip
    try:
        uri, object_ref = _requests.find(asked) or _make_request(asked)
        caller = _callers.find(who) or _make_caller(who)
        notes = _annotations.find(said) or _make_annotations(said)
        return RowTexts(facts, uri + caller, object_ref + notes)
    except _Odd:
        return None


def _compose(entry: AuditEntry, stage: str, now: float, ending: str) -> bytes:
    """A row up to the annotations that both stages have, and its ending."""
    texts = entry.texts
    if texts is None or texts.facts is not entry.facts:
        texts = texts_of(entry.facts)
    if texts is None or not _PLAIN.fullmatch(entry.source_ip):
        raise _Odd
    received, reached = timestamps(entry.received, now)
    related = _related(entry) if entry.parent_audit_id or entry.upstream_audit_id else ""
    return (
        '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata",'
        f'"auditID":"{entry.audit_id}","stage":"{stage}",{texts.before}'
        f'"sourceIPs":["{entry.source_ip}"],'
        f'"requestReceivedTimestamp":"{received}",'
        f'"stageTimestamp":"{reached}",{texts.after}{related}{ending}'
    ).encode("ascii")


def _related(entry: AuditEntry) -> str:
    """The ids of related rows. An API server usually answers with the id that it was sent."""
    notes = ""
    if entry.parent_audit_id:
        notes = f",{_members({'mk8s.io/parent-audit-id': entry.parent_audit_id})}"
    if entry.upstream_audit_id == entry.audit_id:
        notes += f',"mk8s.io/upstream-audit-id":"{entry.audit_id}"'
    elif entry.upstream_audit_id:
        notes += f",{_members({'mk8s.io/upstream-audit-id': entry.upstream_audit_id})}"
    return notes


# -- pieces: each a pure function of its strings


def _make_request(asked: tuple[str, ...]) -> tuple[str, str]:
    """What is asked: `requestURI` and `verb`, and `objectRef`."""
    if len(asked[0]) > MAX_TEXT:
        raise _Odd
    uri = _members({"requestURI": redact_uri(asked[0]), "verb": asked[1]}) + ","
    object_ref = ""
    if asked[2]:
        reference = zip(_REFERENCE, asked[2:], strict=True)
        object_ref = f'"objectRef":{{{_members({key: text for key, text in reference if text})}}},'
    _requests.keep(asked, (uri, object_ref), 2 * (len(uri) + len(object_ref)) + _PIECE_BYTES)
    return uri, object_ref


def _make_annotations(said: tuple[str, ...]) -> str:
    """What was decided about what, with which token: the beginning of `annotations`."""
    named = {"authorization.k8s.io/decision": said[0]}
    named |= {key: text for key, text in zip(_NOTES, said[1:], strict=True) if text}
    notes = f'"annotations":{{{_members(named)}'
    if not said[-1]:  # a client's own audit id hardly comes twice
        _annotations.keep(said, notes, 2 * len(notes) + _PIECE_BYTES)
    return notes


def _make_caller(who: _Who) -> str:
    """Who asks, with what: `user` and `userAgent`."""
    name, uid, groups, user_agent = who
    if len(groups) > MAX_GROUPS or sum(map(len, groups)) > _MAX_GROUPS_TEXT:
        raise _Odd
    user: dict[str, object] = {"username": name}
    if uid:
        user["uid"] = uid
    if groups:
        user["groups"] = groups
    texts = (name, uid, user_agent, *groups)
    caller = _members({"user": user, "userAgent": user_agent}, texts) + ","
    _callers.keep(who, caller, 2 * len(caller) + _PIECE_BYTES)
    return caller


def _members(named: Mapping[str, Any], texts: Collection[str] = ()) -> str:
    """The members of a JSON object, without its braces; the keys are ours.

    Args:
        named: the object.
        texts: all texts in it, if they are not simply its values.

    Raises:
        _Odd: one of the texts is long or no ASCII.
    """
    texts = texts or named.values()
    joined = "".join(texts)
    if len(joined) > MAX_TEXT and max(map(len, texts)) > MAX_TEXT:
        raise _Odd
    if not joined.isascii() or "\x7f" in joined:
        raise _Odd
    return orjson.dumps(named)[1:-1].decode("ascii")
