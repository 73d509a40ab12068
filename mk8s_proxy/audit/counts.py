"""Counts what the audit is told: requests by cluster, verb and status, their bytes and their time.

The journal hands each outcome in, once, and so nothing is counted that is not written down. What a
request says chooses no counter by its name: clusters are those of the policy, verbs, statuses and
reasons those of the tables here, everything else is "other". So strangers cannot make counters, and
a count costs some additions. Pure.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from mk8s_agent.wire.metrics import SECONDS, Labels, histogram
from mk8s_proxy.audit.event import AuditEntry

OTHER: Final = "other"
VERBS: Final = (
    "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
    "post", "put", "head", "options", OTHER,
)  # fmt: skip
"""Kubernetes's of resources, then those of other paths."""
CODES: Final = (
    "101", "200", "201", "202", "204", "206", "304", "400", "401", "403", "404", "405", "406",
    "408", "409", "410", "413", "415", "422", "429", "431", "500", "501", "502", "503", "504",
    "1xx", "2xx", "3xx", "4xx", "5xx", OTHER,
)  # fmt: skip
"""Those that Kubernetes and central answer with; others count as their class, none as "other"."""
STAGES: Final = ("admission", "cluster", "answer")
"""Until a request leaves for its tunnel, until its answer begins, until that has ended."""
MOST_REASONS: Final = 64
"""Words of refusals that are counted apart; they are central's own, so there are not more."""
_VERB: Final = {verb: number * len(CODES) for number, verb in enumerate(VERBS)}
_OTHER_VERB: Final = _VERB[OTHER]
_OTHER_CODE: Final = CODES.index(OTHER)


def _place_of(code: int) -> int:
    if str(code) in CODES:
        return CODES.index(str(code))
    return CODES.index(f"{code // 100}xx") if 100 <= code < 600 else _OTHER_CODE


_CODE: Final = {code: _place_of(code) for code in range(1000)}
LOGINS: Final = {
    ("logins", "create"): "login",
    ("logins", "update"): "refresh",
    ("clustertokens", "create"): "cluster_token",
    ("agentcertificates", "create"): "agent_join",
}
"""Calls of the management API that hand out a credential, by resource and verb."""


class ClusterCounts:
    """What was counted of one cluster."""

    __slots__ = ("received", "requests", "sent")

    def __init__(self) -> None:
        self.requests: dict[int, int] = {}
        """By the place of verb and status."""
        self.received = 0
        """Bytes of bodies from clients."""
        self.sent = 0
        """Bytes of bodies to clients."""

    def by_verb_and_code(self) -> dict[tuple[str, str], int]:
        """The requests."""
        return {
            (VERBS[place // len(CODES)], CODES[place % len(CODES)]): count
            for place, count in self.requests.items()
        }


class RequestCounts:
    """What was counted since the process began."""

    def __init__(self) -> None:
        self.clusters: dict[str, ClusterCounts] = {}
        """By name, those of the policy in force."""
        self.nowhere = ClusterCounts()
        """Of requests for central itself, or for no cluster that there is."""
        self.stages = {stage: histogram() for stage in STAGES}
        self.refusals: dict[str, int] = {}
        """By their reason."""
        self.logins: dict[Labels, int] = {}
        """Credentials that were asked for: by what asked, and what came of it."""
        self._stages = tuple(self.stages.values())

    def follow(self, names: Iterable[str]) -> None:
        """The clusters have changed; what was counted of one that is gone is forgotten."""
        self.clusters = {name: self.clusters.get(name) or ClusterCounts() for name in set(names)}

    def outcome(self, entry: AuditEntry) -> None:
        """A request has ended. On the way of each: no calls but of built-ins."""
        if not entry.began:  # a row of the management API, or of central itself
            self._without_request(entry)
            return
        facts, answered = entry.facts, entry.answered
        counts = self.clusters.get(facts.cluster, self.nowhere)
        try:
            counts.requests[_VERB[facts.verb] + _CODE[entry.code]] += 1
        except KeyError:
            _count_first(counts.requests, facts.verb, entry.code)
        counts.received += entry.bytes_in
        counts.sent += entry.bytes_out
        if answered:
            left, began = entry.left, entry.began
            admission, cluster, answer = self._stages
            spent = left - began
            admission[bisect_left(SECONDS, spent)] += 1
            admission[-1] += spent
            spent = answered - left
            cluster[bisect_left(SECONDS, spent)] += 1
            cluster[-1] += spent
            if not entry.lasts:
                spent = began + entry.duration - answered
                answer[bisect_left(SECONDS, spent)] += 1
                answer[-1] += spent
        if entry.refusal:
            self._refused(entry.refusal)

    def _without_request(self, entry: AuditEntry) -> None:
        facts = entry.facts
        if entry.refusal:
            self._refused(entry.refusal)
        if what := LOGINS.get((facts.resource, facts.verb)):
            result = "success" if entry.code < 400 else "failure"
            key = (what, "throttled" if entry.code == 429 else result)
            self.logins[key] = self.logins.get(key, 0) + 1

    def _refused(self, reason: str) -> None:
        """One more, as long as there are not too many words."""
        if reason not in self.refusals and len(self.refusals) >= MOST_REASONS:
            reason = OTHER
        self.refusals[reason] = self.refusals.get(reason, 0) + 1


def _count_first(requests: dict[int, int], verb: str, code: int) -> None:
    """The first request of its kind, or one of a kind that has no place of its own."""
    place = _VERB.get(verb, _OTHER_VERB) + _CODE.get(code, _OTHER_CODE)
    requests[place] = requests.get(place, 0) + 1
