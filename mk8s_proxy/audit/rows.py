"""Audit rows, composed of remembered pieces: the bytes of `plain_rows` in a third of its time.

Users, clients, paths and rules repeat. So the JSON of what a row says of each is made once, as a
pure function of its strings, and remembered; a row is those pieces and what is new in it: id,
times and counts. Requests that share their facts share the JSON of all of them, too; whoever
remembers such requests keeps it (`texts_of`). No other entry holds any of its row: a watch of an
hour has none in memory.

An entry with text that is long or not ASCII, or with an impersonated user, is odd: `plain_rows`
makes its rows. So strangers cannot fill the memory: there are at most `_REMEMBERED` pieces of
two kinds and `_CALLERS` of two others, each made of a few short strings.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import orjson

from mk8s_proxy.audit import plain_rows
from mk8s_proxy.audit.event import AuditEntry, AuditFacts, RowTexts
from mk8s_proxy.audit.plain_rows import FIRST_FAILURE, MAX_GROUPS, MAX_TEXT
from mk8s_proxy.audit.redaction import redact_uri
from mk8s_proxy.audit.timestamps import timestamp

_REMEMBERED: Final = 4096
_CALLERS: Final = 16384
"""As many as tokens are remembered."""
_MAX_GROUPS_TEXT: Final = 4096
"""Characters of all groups of a user together."""
_REFERENCE: Final = ("namespace", "name", "apiGroup", "apiVersion", "subresource")
_GROUNDS: Final = ("authorization.k8s.io/reason", "mk8s.io/cluster", "mk8s.io/method")


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
    try:
        return _compose(entry, "ResponseComplete", now, _ending(entry))
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
    return (
        '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata",'
        f'"auditID":"{entry.audit_id}","stage":"{stage}",{texts.before}'
        f'"sourceIPs":[{_address(entry.source_ip)}],'
        f'"requestReceivedTimestamp":"{timestamp(entry.received)}",'
        f'"stageTimestamp":"{timestamp(now)}",{texts.after}{_related(entry)}{ending}'
    ).encode("ascii")


def _ending(entry: AuditEntry) -> str:
    """What only an outcome says."""
    refusal = _note("mk8s.io/refusal", entry.refusal) if entry.refusal else ""
    failure = ',"status":"Failure"' if entry.code >= FIRST_FAILURE else ""
    milliseconds = "%.3f" % (entry.duration * 1000)
    return (
        f',"mk8s.io/bytes-in":"{entry.bytes_in}","mk8s.io/bytes-out":"{entry.bytes_out}",'
        f'"mk8s.io/duration-ms":"{milliseconds}"{refusal}}},'
        f'"responseStatus":{{"metadata":{{}},"code":{entry.code}{failure}}}}}\n'
    )


def _related(entry: AuditEntry) -> str:
    """The ids of related rows. An API server usually answers with the id that it was sent."""
    notes = ""
    if entry.parent_audit_id:
        notes = _note("mk8s.io/parent-audit-id", entry.parent_audit_id)
    if entry.upstream_audit_id == entry.audit_id:
        notes += f',"mk8s.io/upstream-audit-id":"{entry.audit_id}"'
    elif entry.upstream_audit_id:
        notes += _note("mk8s.io/upstream-audit-id", entry.upstream_audit_id)
    return notes


# -- pieces: each a pure function of its strings


def _texts(facts: AuditFacts) -> RowTexts:
    """The pieces that some facts are made of.

    Raises:
        _Odd: they are not worth remembering.
    """
    if facts.impersonated is not None:
        raise _Odd
    uri, object_ref = _request(
        facts.request_uri, facts.verb, facts.resource, facts.namespace, facts.name,
        facts.api_group, facts.api_version, facts.subresource,
    )  # fmt: skip
    caller, token_id = _caller(
        facts.user, facts.uid, facts.groups, facts.user_agent, facts.token_id
    )
    verdict = _verdict(facts.decision, facts.reason, facts.cluster, facts.method)
    related = ""
    if facts.client_audit_id:
        related = _note("mk8s.io/client-audit-id", facts.client_audit_id)
    return RowTexts(facts, uri + caller, f"{object_ref}{verdict}{token_id}{related}")


@lru_cache(_REMEMBERED)
def _request(request_uri: str, verb: str, *reference: str) -> tuple[str, str]:
    """What is asked: `requestURI` and `verb`, and `objectRef`."""
    if len(request_uri) > MAX_TEXT:
        raise _Odd
    uri = f'"requestURI":{_quoted(redact_uri(request_uri))},"verb":{_quoted(verb)},'
    resource = reference[0]
    if not resource:
        return uri, ""
    others = _notes(zip(_REFERENCE, reference[1:], strict=True))
    return uri, f'"objectRef":{{"resource":{_quoted(resource)}{others}}},'


@lru_cache(_CALLERS)
def _caller(
    user: str, uid: str, groups: tuple[str, ...], user_agent: str, token_id: str
) -> tuple[str, str]:
    """Who asks, with what: `user` and `userAgent`, and the note of the token."""
    if sum(map(len, groups)) > _MAX_GROUPS_TEXT or len(groups) > MAX_GROUPS:
        raise _Odd
    known = _note("uid", uid) if uid else ""
    if groups:
        known += f',"groups":[{",".join(map(_quoted, groups))}]'
    caller = f'"user":{{"username":{_quoted(user)}{known}}},"userAgent":{_quoted(user_agent)},'
    return caller, _note("mk8s.io/token-id", token_id) if token_id else ""


@lru_cache(_CALLERS)
def _address(source_ip: str) -> str:
    """From where: the one member of `sourceIPs`."""
    return _quoted(source_ip)


@lru_cache(_REMEMBERED)
def _verdict(decision: str, *grounds: str) -> str:
    """What was decided about what: the beginning of `annotations`."""
    notes = _notes(zip(_GROUNDS, grounds, strict=True))
    return f'"annotations":{{"authorization.k8s.io/decision":{_quoted(decision)}{notes}'


def _notes(pairs: Iterable[tuple[str, str]]) -> str:
    """More members of an object: those that are not empty."""
    return "".join([_note(key, text) for key, text in pairs if text])


def _note(key: str, text: str) -> str:
    """One more member of an object; the key is ours."""
    return f',"{key}":{_quoted(text)}'


def _quoted(text: str) -> str:
    """The JSON of short ASCII text.

    Raises:
        _Odd: it is something else.
    """
    if len(text) > MAX_TEXT or not text.isascii() or "\x7f" in text:
        raise _Odd
    return orjson.dumps(text).decode("ascii")
