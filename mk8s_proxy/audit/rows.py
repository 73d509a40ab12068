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
from typing import Final

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
_GROUNDS: Final = ("authorization.k8s.io/reason", "mk8s.io/cluster", "mk8s.io/method")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\x7f-\U0010ffff]{0,512}')
"""Text that is its own JSON."""
_PIECE_BYTES: Final = 800
"""What a piece and its key hold beside the text."""

_Who = tuple[str, str, tuple[str, ...], str, str]
_requests: Final[Memory[tuple[str, ...], tuple[str, str]]] = Memory(_REMEMBERED, 8 << 20)
"""Buys 9 % of a request with a known target (compiled 5 %)."""
_callers: Final[Memory[_Who, tuple[str, str]]] = Memory(_CALLERS, 32 << 20)
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
    try:
        return _texts(facts)
    except _Odd:
        return None


def _compose(entry: AuditEntry, stage: str, now: float, ending: str) -> bytes:
    """A row up to the annotations that both stages have, and its ending."""
    texts = entry.texts
    if texts is None or texts.facts is not entry.facts:
        texts = _texts(entry.facts)
    if not _PLAIN.fullmatch(entry.source_ip):
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


def _texts(facts: AuditFacts) -> RowTexts:
    """The pieces that some facts are made of.

    Raises:
        _Odd: they are not worth remembering.
    """
    if facts.impersonated is not None:
        raise _Odd
    asked = (
        facts.request_uri, facts.verb, facts.resource, facts.namespace, facts.name,
        facts.api_group, facts.api_version, facts.subresource,
    )  # fmt: skip
    who = (facts.user, facts.uid, facts.groups, facts.user_agent, facts.token_id)
    uri, object_ref = _requests.find(asked) or _make_request(asked)
    caller, token_id = _callers.find(who) or _make_caller(who)
    related = ""
    if facts.client_audit_id:
        related = f",{_members({'mk8s.io/client-audit-id': facts.client_audit_id})}"
    return RowTexts(facts, uri + caller, f"{object_ref}{_verdict(facts)}{token_id}{related}")


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


def _make_caller(who: _Who) -> tuple[str, str]:
    """Who asks, with what: `user` and `userAgent`, and the note of the token."""
    name, uid, groups, user_agent, token_id = who
    user = _members({"username": name, "uid": uid} if uid else {"username": name})
    if groups:
        user += f',"groups":{_strings(groups)}'
    caller = f'"user":{{{user}}},{_members({"userAgent": user_agent})},'
    note = f",{_members({'mk8s.io/token-id': token_id})}" if token_id else ""
    _callers.keep(who, (caller, note), 2 * (len(caller) + len(note)) + _PIECE_BYTES)
    return caller, note


def _verdict(facts: AuditFacts) -> str:
    """What was decided about what: the beginning of `annotations`."""
    notes = {"authorization.k8s.io/decision": facts.decision}
    said = (facts.reason, facts.cluster, facts.method)
    notes |= {key: text for key, text in zip(_GROUNDS, said, strict=True) if text}
    return f'"annotations":{{{_members(notes)}'


def _strings(groups: tuple[str, ...]) -> str:
    """The JSON of the names of groups.

    Raises:
        _Odd: they are many, long or no ASCII.
    """
    joined = "".join(groups)
    if len(joined) > _MAX_GROUPS_TEXT or len(groups) > MAX_GROUPS:
        raise _Odd
    if max(map(len, groups)) > MAX_TEXT or not joined.isascii() or "\x7f" in joined:
        raise _Odd
    return orjson.dumps(groups).decode("ascii")


def _members(named: dict[str, str]) -> str:
    """The members of a JSON object, without its braces; the keys are ours.

    Raises:
        _Odd: one of the texts is long or no ASCII.
    """
    texts = "".join(named.values())
    if len(texts) > MAX_TEXT and max(map(len, named.values())) > MAX_TEXT:
        raise _Odd
    if not texts.isascii() or "\x7f" in texts:
        raise _Odd
    return orjson.dumps(named)[1:-1].decode("ascii")
