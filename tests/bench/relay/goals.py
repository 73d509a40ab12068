"""The targets of the project: each a ratio of the product to a peer of the same run. Pure."""

from dataclasses import dataclass

from tests.bench.relay.figures import Spread, meets
from tests.bench.relay.results import Results

PRODUCT = "product"
GO, GO_400, GO_PROXY = "go-tunnel", "go-tunnel-400", "go-proxy"
NGINX, DIRECT = "nginx", "direct"


@dataclass(frozen=True, slots=True)
class Goal:
    """One row of the targets' table."""

    title: str
    measure: str
    figure: str
    peer: str
    pure: float
    """For pure Python."""
    compiled: float
    """For the compiled wheel."""
    at_least: bool = False
    peer_figure: str = ""
    """Where the peer's part has another name."""


GOALS = (
    Goal("CPU/request 2 KB h2 c32, stub", "h2 c32", "cpu_us", GO_400, 0.25, 0.18),
    Goal("CPU/request 2 KB h2 c32, stub", "h2 c32", "cpu_us", NGINX, 1.7, 1.2),
    Goal("CPU/request h2 c32, real API server", "kube h2 c32", "cpu_us", GO, 0.35, 0.30),
    Goal("requests/s h2 c32, real API server", "kube h2 c32", "rps", DIRECT, 0.62, 0.68, True),
    Goal("added p50 at c1 h2", "h2 c1", "added_p50_us", GO, 0.45, 0.40),
    Goal("p99 at c1 h2", "h2 c1", "p99_us", GO, 0.40, 0.40),
    Goal("CPU/request http/1.1 c32", "h1 c32", "cpu_us", GO, 0.35, 0.25),
    Goal("bulk CPU s/GB", "bulk", "cpu_s_gb", GO, 0.5, 0.5),
    Goal("bulk MB/s", "bulk", "mb_s", GO, 1.7, 1.7, True),
    Goal("small GET under bulk, p99", "small under bulk", "p99_us", GO, 0.2, 0.2),
    Goal("small GET under bulk, p50", "small under bulk", "p50_us", GO, 1.5, 1.3),
    Goal("KiB per idle watch at central", "idle watches", "kib.central", GO, 0.12, 0.12),
    Goal("KiB per tunnel at central", "tunnels", "kib.central", GO, 1.0, 1.0),
    Goal("one stream over 50 ms, MB/s", "wan 50 ms", "mb_s", DIRECT, 0.8, 0.8, True),
    Goal("growth with 20 stalled readers", "slow readers", "mib.central", GO, 0.15, 0.15),
    Goal("handshake + first request, central", "handshakes", "cpu_us.central", GO, 0.8, 0.8),
    Goal(
        "exec splice s/GB, central, down", "splice", "down_s_gb.central", GO_PROXY, 1.3, 1.2,
        peer_figure="down_s_gb.proxy",
    ),
    Goal(
        "exec splice s/GB, central, up", "splice", "up_s_gb.central", GO_PROXY, 1.3, 1.2,
        peer_figure="up_s_gb.proxy",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and how it went; `ratio` is None when a side was not measured."""

    goal: Goal
    product: Spread | None
    peer: Spread | None
    ratio: Spread | None
    target: float

    @property
    def met(self) -> str:
        """ "yes", "no", or "not measured"."""
        if self.ratio is None:
            return "not measured"
        return "yes" if meets(self.ratio.median, self.target, at_least=self.goal.at_least) else "no"


def judge(results: Results, *, compiled: bool) -> list[Verdict]:
    """Every goal with what was measured."""
    verdicts = []
    for goal in GOALS:
        theirs = (goal.peer, goal.peer_figure or goal.figure)
        verdicts.append(
            Verdict(
                goal,
                results.spread(goal.measure, PRODUCT, goal.figure),
                results.spread(goal.measure, *theirs),
                results.ratio(goal.measure, (PRODUCT, goal.figure), theirs),
                goal.compiled if compiled else goal.pure,
            )
        )
    return verdicts
