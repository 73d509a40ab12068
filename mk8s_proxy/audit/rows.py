"""Audit rows: what they are made of, composed of remembered pieces.

Users, clients, paths and rules repeat. So the JSON of what a row says of each is made once, as a
pure function of its strings, and remembered; a row is those pieces and what is new in it: id,
times and counts. Requests that share their facts share the JSON of all of them, too; whoever
remembers such requests keeps it (`texts_of`). No other entry holds any of its row: a watch of an
hour has none in memory.

Pieces of long text are made anew each time. So what is remembered are a few short strings each, and
their memories bound them in number and bytes.
"""

import json
import re
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from mk8s_agent.wire.memory import Memory
from mk8s_proxy.audit.event import AuditEntry, AuditFacts, ImpersonatedUser, RowTexts
from mk8s_proxy.audit.redaction import redact_tokens, redact_uri

MAX_TEXT: Final = 512
"""Characters of a name, an address, a user agent or an id before it is cut."""
MAX_REASON: Final = 2048
"""Characters of a reason."""
MAX_URI: Final = 8192
"""Characters of a request URI that is allowed: `kubectl exec` puts its command there."""
MAX_REFUSED_URI: Final = 2048
"""Characters of one that is refused: it did nothing, and refusals must be cheap."""
MAX_GROUPS: Final = 64
"""Groups of a user that are written down."""
FIRST_FAILURE: Final = 400
"""Status codes from here on are failures."""

_REMEMBERED: Final = 4096
_CALLERS: Final = 16384
"""As many as tokens are remembered."""
_MAX_GROUPS_TEXT: Final = 4096
"""Characters of all groups of a user together that are remembered."""
_REFERENCE: Final = ("resource", "namespace", "name", "apiGroup", "apiVersion", "subresource")
_LONE_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")
_ADDRESS: Final = re.compile(r"[0-9A-Za-z.:%_-]{1,64}")
"""An address as our transports say it: its own JSON."""
_SHARED_CHARACTERS: Final = 8192
"""Of the texts of a row that requests share: longer ones take more memory than time."""
_MICROSECONDS: Final = 1_000_000
_THREE_DIGITS: Final = [f"{number:03d}" for number in range(1000)]
"""Looking a number up takes a third of formatting it."""
_PIECE_BYTES: Final = 800
"""What a piece and its key hold beside the text."""

_Request = tuple[str, str, str, str, str, str, str, str, str]
"""URI, decision and verb, then what `_REFERENCE` names."""
_Who = tuple[str, str, tuple[str, ...], str, str, str]
"""User, uid, groups, user agent, the id of the token and the delegate."""
_Verdict = tuple[str, str, str, str]
"""Decision, reason, cluster and method."""
_requests: Final[Memory[_Request, tuple[str, str, str]]] = Memory(_REMEMBERED, 8 << 20)
"""Buys 9 % of a request with a known target (compiled 5 %)."""
_callers: Final[Memory[_Who, tuple[str, str, str]]] = Memory(_CALLERS, 32 << 20)
"""Buys 6 to 7 % of a request with a new head (compiled 4 %)."""
_verdicts: Final[Memory[_Verdict, tuple[str, str]]] = Memory(_REMEMBERED, 8 << 20)
"""Buys 5 % of a request with a new target."""


def encode_outcome(entry: AuditEntry, now: float) -> bytes:
    """The ResponseComplete row: one line of ASCII with its line feed.

    Args:
        entry: of a request that ended, or that was refused.
        now: seconds since the epoch.
    """
    refusal = _note("mk8s.io/refusal", entry.refusal) if entry.refusal else ""
    failure = ',"status":"Failure"' if entry.code >= FIRST_FAILURE else ""
    milliseconds = "%.3f" % (entry.duration * 1000)
    upstream, cut = entry.upstream_audit_id, ""
    if upstream == entry.audit_id:  # as API servers mostly answer
        upstream = f',"mk8s.io/upstream-audit-id":"{upstream}"'
    elif upstream:
        cut = "upstreamAuditID," if len(upstream) > MAX_TEXT else ""
        upstream = _note("mk8s.io/upstream-audit-id", upstream)
    ending = (
        f'{upstream},"mk8s.io/bytes-in":"{entry.bytes_in}","mk8s.io/bytes-out":"{entry.bytes_out}",'
        f'"mk8s.io/duration-ms":"{milliseconds}"{refusal}}},'
        f'"responseStatus":{{"metadata":{{}},"code":{entry.code}{failure}}}}}\n'
    )
    return encode_intent(entry, now, "ResponseComplete", ending, cut)


def encode_intent(
    entry: AuditEntry,
    now: float,
    stage: str = "RequestReceived",
    ending: str = "}}\n",
    cut: str = "",
) -> bytes:
    """The RequestReceived row of a request that is about to be sent: what all rows have.

    Args:
        entry: of the request.
        now: seconds since the epoch.
        stage, ending, cut: of another row: what comes behind that, and what was cut in it.

    Returns:
        One line of ASCII with its line feed.
    """
    texts = entry.texts
    if texts is None or texts.facts is not entry.facts:
        texts = texts_of(entry.facts)
    received, reached = timestamps(entry.received, now)
    cut = texts.cut + cut
    address = entry.source_ip
    sources = f'"sourceIPs":["{address}"]'
    if not _ADDRESS.fullmatch(address):
        sources = _members({"sourceIPs": [address[:MAX_TEXT]]})
        cut += _cut({"sourceIPs": address})
    related = ""
    if entry.parent_audit_id:
        related = _note("mk8s.io/parent-audit-id", entry.parent_audit_id)
    if cut:
        related += f',"mk8s.io/truncated":"{cut[:-1]}"'
    return (
        '{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata",'
        f'"auditID":"{entry.audit_id}","stage":"{stage}",{texts.before}{sources},'
        f'"requestReceivedTimestamp":"{received}",'
        f'"stageTimestamp":"{reached}",{texts.after}{related}{ending}'
    ).encode("ascii")


# -- what equal requests share


def texts_of(facts: AuditFacts) -> RowTexts:
    """What the rows of requests with these facts share, in their order: what was cut comes last."""
    asked = (
        facts.request_uri, facts.decision, facts.verb, facts.resource, facts.namespace,
        facts.name, facts.api_group, facts.api_version, facts.subresource,
    )  # fmt: skip
    who = (
        facts.user, facts.uid, facts.groups, facts.user_agent, facts.token_id, facts.delegate,
    )  # fmt: skip
    verdict = (facts.decision, facts.reason, facts.cluster, facts.method)
    uri, reference, cut = _requests.find(asked) or _make_request(asked)
    caller, token, cut_of_caller = _callers.find(who) or _make_caller(who)
    notes, cut_of_verdict = _verdicts.find(verdict) or _make_verdict(verdict)
    before, after = uri + caller, reference + notes + token
    cut += cut_of_caller + cut_of_verdict
    if facts.client_audit_id:
        after += _note("mk8s.io/client-audit-id", facts.client_audit_id)
        cut += _cut({"clientAuditID": facts.client_audit_id})
    if facts.impersonated is not None:
        text, names = _impersonated(facts.impersonated)
        before, cut = before + text, cut + names
    short = facts.impersonated is None and len(before) + len(after) <= _SHARED_CHARACTERS
    return RowTexts(facts, before, after, cut, short)


# -- pieces: each a pure function of its strings


def _make_request(asked: _Request) -> tuple[str, str, str]:
    """What is asked: `requestURI` and `verb`, `objectRef`, and what was cut."""
    request_uri, decision, verb, resource, *_ = asked
    most = MAX_URI if decision == "allow" else MAX_REFUSED_URI
    request = {"requestURI": redact_uri(request_uri[:most]), "verb": verb[:MAX_TEXT]}
    uri = _members(request) + ","
    named: dict[str, str] = {}
    reference = ""
    if resource:
        named = {key: text for key, text in zip(_REFERENCE, asked[3:], strict=True) if text}
        if "name" in named:
            named["name"] = redact_tokens(named["name"])  # a management path may name a session
        members = _members({key: text[:MAX_TEXT] for key, text in named.items()})
        reference = f'"objectRef":{{{members}}},'
    if max(map(len, asked)) <= MAX_TEXT:
        size = 2 * (len(uri) + len(reference)) + _PIECE_BYTES
        _requests.keep(asked, (uri, reference, ""), size)
        return uri, reference, ""
    cut = "requestURI," if len(request_uri) > most else ""
    return uri, reference, cut + _cut({"verb": verb} | named)


def _make_caller(who: _Who) -> tuple[str, str, str]:
    """Who asks, with what: `user` and `userAgent`, the note of the token, and what was cut."""
    name, uid, groups, user_agent, token_id, delegate = who
    user, cut = _user(name, uid, groups)
    caller = _members({"user": user, "userAgent": user_agent[:MAX_TEXT]}) + ","
    token = _note("mk8s.io/token-id", token_id) if token_id else ""
    token += _note("mk8s.io/delegate", delegate) if delegate else ""
    if max(map(len, (name, uid, user_agent, token_id, delegate))) > MAX_TEXT:
        cut += _cut({"userAgent": user_agent, "tokenID": token_id, "delegate": delegate})
    elif sum(map(len, groups)) <= _MAX_GROUPS_TEXT:
        _callers.keep(who, (caller, token, cut), 2 * (len(caller) + len(token)) + _PIECE_BYTES)
    return caller, token, cut


def _user(name: str, uid: str, groups: tuple[str, ...]) -> tuple[dict[str, object], str]:
    """The members of a user, and what was cut of them."""
    cut = ""
    user: dict[str, object] = {"username": name[:MAX_TEXT]}
    if uid:
        user["uid"] = uid[:MAX_TEXT]
    if len(name) > MAX_TEXT or len(uid) > MAX_TEXT:
        cut = _cut({"user": name, "uid": uid})
    if groups:
        user["groups"] = [group[:MAX_TEXT] for group in groups[:MAX_GROUPS]]
        if len(groups) > MAX_GROUPS or max(map(len, groups)) > MAX_TEXT:
            cut += "groups,"
    return user, cut


def _impersonated(other: ImpersonatedUser) -> tuple[str, str]:
    """As whom a user acts: `impersonatedUser`, and what was cut of it."""
    user, cut = _user(other.user, other.uid, other.groups)
    extra: dict[str, list[str]] = {}
    for key, values in other.extra.items():
        extra.setdefault(key[:MAX_TEXT], []).extend([value[:MAX_TEXT] for value in values])
        if len(key) > MAX_TEXT or max(map(len, values), default=0) > MAX_TEXT:
            cut += "extra,"
    return _members({"impersonatedUser": user | {"extra": extra}}) + ",", cut


def _make_verdict(said: _Verdict) -> tuple[str, str]:
    """What was decided about what: the beginning of `annotations`, and what was cut."""
    decision, reason, cluster, method = said
    notes = {"authorization.k8s.io/decision": decision[:MAX_TEXT]}
    if reason:
        notes["authorization.k8s.io/reason"] = redact_tokens(reason[:MAX_REASON])
    if cluster:
        notes["mk8s.io/cluster"] = cluster[:MAX_TEXT]
    if method:
        notes["mk8s.io/method"] = method[:MAX_TEXT]
    beginning = '"annotations":{' + _members(notes)
    if max(map(len, (reason, cluster, method))) <= MAX_TEXT:
        _verdicts.keep(said, (beginning, ""), 2 * len(beginning) + _PIECE_BYTES)
        return beginning, ""
    cut = "reason," if len(reason) > MAX_REASON else ""
    return beginning, cut + _cut({"cluster": cluster, "method": method})


def _cut(texts: dict[str, str]) -> str:
    """The names of those texts that have to be cut, each with a comma behind it."""
    return "".join([name + "," for name, text in texts.items() if len(text) > MAX_TEXT])


def _note(key: str, text: str) -> str:
    """One more member of an object, cut if it is long; the key is ours."""
    return "," + _members({key: text[:MAX_TEXT]})


def _members(values: dict[str, Any]) -> str:
    """The JSON of an object without its braces, in printable ASCII: nothing a stranger sent can
    end a line or turn a terminal around.
    """
    try:
        text = orjson.dumps(values).decode()
    except orjson.JSONEncodeError:  # a lone surrogate, which no decoder of UTF-8 would accept
        text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii() or "\x7f" in text:
        text = _UNPRINTABLE.sub(_escaped, text)
    return text[1:-1]


def _escaped(found: re.Match[str]) -> str:
    """The JSON of characters in a string; a lone surrogate becomes U+FFFD."""
    characters = _LONE_SURROGATE.sub("\ufffd", found[0])
    return json.dumps(characters)[1:-1].replace("\x7f", "\\u007f")


# -- times: RFC 3339 in UTC with microseconds, as metav1.MicroTime writes them


class Timestamps:
    """Makes timestamps; the second of the last one is at hand. One belongs to one event loop."""

    __slots__ = ("_start", "_text")

    def __init__(self) -> None:
        self._start = 0
        self._text = "1970-01-01T00:00:00."

    def format(self, moment: float) -> str:
        """The text of a time in seconds since the epoch."""
        microseconds = int(moment * _MICROSECONDS)
        fraction = microseconds - self._start
        if not 0 <= fraction < _MICROSECONDS:
            second, fraction = divmod(microseconds, _MICROSECONDS)
            self._start = second * _MICROSECONDS
            self._text = _text_of(second)
        high, low = divmod(fraction, 1000)
        return f"{self._text}{_THREE_DIGITS[high]}{_THREE_DIGITS[low]}Z"

    def pair(self, first: float, second: float) -> tuple[str, str]:
        """The texts of two times, which nearly always are of one second."""
        one = int(first * _MICROSECONDS) - self._start
        other = int(second * _MICROSECONDS) - self._start
        if not (0 <= one < _MICROSECONDS and 0 <= other < _MICROSECONDS):
            return self.format(first), self.format(second)
        text, digits = self._text, _THREE_DIGITS
        return (
            f"{text}{digits[one // 1000]}{digits[one % 1000]}Z",
            f"{text}{digits[other // 1000]}{digits[other % 1000]}Z",
        )


def _text_of(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))


_OWN: Final = Timestamps()

timestamp: Final[Callable[[float], str]] = _OWN.format
"""The text of a time in seconds since the epoch."""
timestamps: Final[Callable[[float, float], tuple[str, str]]] = _OWN.pair
"""The texts of two times."""
