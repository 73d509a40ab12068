"""What is counted of requests: by names of ours alone, whatever a request says."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.metrics import SECONDS
from mk8s_proxy.audit.counts import (
    CODES,
    LOGINS,
    MOST_REASONS,
    OTHER,
    STAGES,
    VERBS,
    RequestCounts,
)
from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import new_audit_id

BEGAN = 100.0


def entry(**given: object) -> AuditEntry:
    """An answered request, or what `given` makes of it: fields of the entry and of its facts."""
    of_facts = {key: given.pop(key) for key in set(given) & set(AuditFacts._fields)}
    facts = AuditFacts(**{"cluster": "prod", "verb": "get"} | of_facts)  # type: ignore[arg-type]
    made = AuditEntry(
        new_audit_id(), 0.0, facts=facts, code=200, bytes_in=3, bytes_out=5, duration=1.5,
        began=BEGAN, left=BEGAN + 0.002, answered=BEGAN + 0.3,
    )  # fmt: skip
    return dataclasses.replace(made, **given)  # type: ignore[arg-type]


@pytest.fixture
def counts() -> RequestCounts:
    counts = RequestCounts()
    counts.follow(["prod", "dev"])
    return counts


def bucket(seconds: float) -> int:
    return next(place for place, bound in enumerate(SECONDS) if seconds <= bound)


def test_a_request_is_counted(counts: RequestCounts) -> None:
    for _ in range(2):
        counts.outcome(entry())
    prod = counts.clusters["prod"]
    assert prod.by_verb_and_code() == {("get", "200"): 2}
    assert (prod.received, prod.sent) == (6, 10)
    assert counts.clusters["dev"].by_verb_and_code() == {}
    for stage, spent in zip(STAGES, (0.002, 0.298, 1.2), strict=True):
        assert counts.stages[stage][bucket(spent)] == 2
        assert counts.stages[stage][-1] == pytest.approx(2 * spent)
    assert counts.refusals == counts.logins == {}


def test_the_end_of_a_watch_is_no_latency(counts: RequestCounts) -> None:
    counts.outcome(entry(lasts=True, verb="watch"))
    assert [sum(counts.stages[stage][:-1]) for stage in STAGES] == [1, 1, 0]


def test_a_refusal_has_a_reason_and_no_stages(counts: RequestCounts) -> None:
    counts.outcome(entry(code=403, refusal="Forbidden", left=0.0, answered=0.0))
    assert counts.refusals == {"Forbidden": 1}
    assert counts.clusters["prod"].by_verb_and_code() == {("get", "403"): 1}
    assert all(sum(it) == 0 for it in counts.stages.values())


@pytest.mark.parametrize(
    ("code", "shown"),
    [(200, "200"), (226, "2xx"), (418, "4xx"), (599, "5xx"), (0, OTHER), (999, OTHER), (-7, OTHER)],
)
def test_codes(counts: RequestCounts, code: int, shown: str) -> None:
    counts.outcome(entry(code=code))
    assert counts.clusters["prod"].by_verb_and_code() == {("get", shown): 1}


@pytest.mark.parametrize(("call", "kind"), LOGINS.items())
def test_logins(counts: RequestCounts, call: tuple[str, str], kind: str) -> None:
    resource, verb = call
    facts = {"resource": resource, "verb": verb, "api_group": "mk8s.io", "began": 0.0}
    for code in (200, 201, 401, 429):
        reason = "" if code < 400 else "Unauthorized"
        counts.outcome(entry(code=code, refusal=reason, answered=0.0, **facts))
    counts.outcome(entry(answered=0.0, **facts | {"verb": "delete"}))
    assert counts.logins == {
        (kind, "success"): 2,
        (kind, "failure"): 1,
        (kind, "throttled"): 1,
    }
    assert counts.refusals == {"Unauthorized": 2}
    assert counts.clusters["prod"].by_verb_and_code() == {}, "it is no request of the cluster"


def test_attack_a_request_that_looks_like_a_login(counts: RequestCounts) -> None:
    """/apis/mk8s.io/v1/logins of a cluster is the cluster's."""
    counts.outcome(entry(api_group="mk8s.io", resource="logins", verb="create", answered=0.0))
    assert counts.logins == {}


def test_clusters_that_are_gone_are_forgotten(counts: RequestCounts) -> None:
    counts.outcome(entry())
    counts.follow(["prod", "new"])
    assert counts.clusters["prod"].by_verb_and_code() == {("get", "200"): 1}
    counts.follow([])
    counts.outcome(entry())
    assert counts.clusters == {}
    assert counts.nowhere.by_verb_and_code() == {("get", "200"): 1}


TEXT = st.one_of(st.text(max_size=8), st.sampled_from([*VERBS, "prod", "mk8s.io", "logins"]))


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, st.integers(-1, 1000)), max_size=20))
def test_attack_label_values_of_a_strangers_choice(
    requests: list[tuple[str, str, str, str, int]],
) -> None:
    """Names of clusters, verbs and groups in requests make no counters of their own."""
    counts = RequestCounts()
    counts.follow(["prod"])
    for cluster, verb, group, resource, code in requests:
        facts = {"cluster": cluster, "verb": verb, "api_group": group, "resource": resource}
        counts.outcome(entry(code=code, refusal="NO_CREDENTIAL", answered=0.0, **facts))
    assert set(counts.clusters) == {"prod"}
    kinds = {*counts.nowhere.by_verb_and_code(), *counts.clusters["prod"].by_verb_and_code()}
    assert kinds <= {(verb, code) for verb in VERBS for code in CODES}
    assert set(counts.refusals) <= {"NO_CREDENTIAL"}
    assert counts.logins == {}
    total = [*counts.nowhere.requests.values(), *counts.clusters["prod"].requests.values()]
    assert sum(total) == len(requests), "none is lost"


def test_attack_more_reasons_than_there_are(counts: RequestCounts) -> None:
    for number in range(MOST_REASONS + 10):
        counts.outcome(entry(refusal=f"R{number}", answered=0.0, began=BEGAN * (number % 2)))
    assert len(counts.refusals) == MOST_REASONS + 1
    assert counts.refusals[OTHER] == 10
