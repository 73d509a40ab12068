"""How long reading and deciding a request takes: run `python tests/bench/bench_policy.py`.

Prints microseconds for the request line, and for decisions under policies of 10,000 rules: the
first one of a user on a cluster, a new one, and one that was asked before. The targets: 10
microseconds for the line, 5 for a cached decision, 1,000 for a new one. That large policies also
decide rightly is checked by tests/proxy/test_authz_differential.py.
"""

import time
import timeit
from collections.abc import Callable

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.policy import PolicySource, RoleSpec, RuleSpec
from mk8s_proxy.authz.snapshot import PolicySnapshot
from mk8s_proxy.kube.request_info import parse_request_info
from mk8s_proxy.kube.request_target import parse_target

RULES = 10_000
NEW_DECISIONS = 300
ROUNDS = 50_000
CLUSTERS = {f"dev-{number}": {"env": "dev"} for number in range(200)}
USER = "dev@example.com"

LINES = (
    b"/api/v1/namespaces/shop/pods/web-1",
    b"/apis/apps/v1/namespaces/shop/deployments?limit=500",
    b"/api/v1/namespaces/shop/pods?watch=true&fieldSelector=metadata.name%3Dweb&timeoutSeconds=300",
    b"/api/v1/namespaces/shop/pods/web-1/log?follow=true",
    b"/version",
)


def rule(number: int, namespace: str, *, cluster: str = "dev-*", deny: bool = False) -> RuleSpec:
    """A rule like those of the README, for a namespace pattern of its own."""
    return RuleSpec(
        cluster=cluster.format(number),
        namespaces=(namespace.format(number),),
        verbs=("get", "list", "logs", "exec"),
        resources=("pods", "services", "deployments.apps"),
        deny=deny,
    )


def split(rules: list[RuleSpec], size: int) -> list[RoleSpec]:
    """Make roles of `size` rules each."""
    starts = range(0, len(rules), size)
    return [RoleSpec(f"role-{start}", tuple(rules[start : start + size])) for start in starts]


def question(number: int) -> Attributes:
    """A question that differs for every number."""
    return Attributes("get", "", "pods", "", f"team-{number * 7 % RULES}-x", f"web-{number}")


def microseconds(work: Callable[[], object]) -> float:
    """The time of one call, of many."""
    return timeit.timeit(work, number=ROUNDS) / ROUNDS * 1e6


def measure(title: str, roles: list[RoleSpec], held: int) -> None:
    """Print the figures of a policy for a user who holds the first `held` roles."""
    names = tuple(role.name for role in roles[:held])
    started = time.perf_counter()
    snapshot = PolicySnapshot(PolicySource(roles, {USER: names}, CLUSTERS))
    compiled = time.perf_counter()
    snapshot.decide(USER, (), "dev-3", question(0))
    first = time.perf_counter()
    for number in range(1, NEW_DECISIONS + 1):
        snapshot.decide(USER, (), "dev-3", question(number))
    new = time.perf_counter()
    asked = question(5)
    cached = microseconds(lambda: snapshot.decide(USER, (), "dev-3", asked))
    print(
        f"{title:44} compile {(compiled - started) * 1e3:6.0f} ms   first "
        f"{(first - compiled) * 1e6:8.0f}   new {(new - first) / NEW_DECISIONS * 1e6:7.1f}   "
        f"cached {cached:5.2f}"
    )


def main() -> None:
    """Print the table."""
    print("microseconds")
    for line in LINES:
        spent = microseconds(
            lambda line=line: parse_request_info(b"GET", parse_target(b"GET", line))
        )
        print(f"{line.decode()[:90]:92} {spent:5.1f}")
    numbers = range(RULES)
    prefixes = [rule(number, "team-{}-*") for number in numbers]
    measure("500 roles of 20 rules, the user has 10", split(prefixes, 20), 10)
    measure("500 roles of 20 rules, the user has all", split(prefixes, 20), 500)
    measure("one role of 10,000 rules", split(prefixes, RULES), 1)
    measure("10,000 roles of one rule, the user has all", split(prefixes, 1), RULES)
    suffixes = [rule(number, "*-{}") for number in numbers]
    measure("one role, namespaces by their ends", split(suffixes, RULES), 1)
    clusters = [rule(number, "*", cluster="c{}-*") for number in numbers]
    measure("one role, a cluster pattern for each rule", split(clusters, RULES), 1)
    denials = [rule(number, "team-{}-*", deny=number % 2 == 1) for number in numbers]
    measure("one role, every second rule denies", split(denials, RULES), 1)


if __name__ == "__main__":
    main()
