"""What `/metrics` of central shows: the table of metrics, and one process's values of them.

`admin` serves it, `metrics_files` joins the processes of one machine. Labels are clusters of the
policy in force, and words of our own (`audit.counts`).
"""

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from mk8s_agent.wire.metrics import Labels, Metric, Snapshot, Value
from mk8s_proxy.audit.counts import ClusterCounts

if TYPE_CHECKING:
    from mk8s_proxy.process.app import Central

METRICS: Final = (
    Metric("mk8s_central_requests_total", "counter",
           'Requests for clusters that have ended, refused ones too; cluster "" is none of the '
           "policy, a verb or code that Kubernetes does not use is other or a class.",
           ("cluster", "verb", "code")),
    Metric("mk8s_central_request_bytes_total", "counter",
           "Bytes of bodies and streams that clients sent.", ("cluster",)),
    Metric("mk8s_central_response_bytes_total", "counter",
           "Bytes of bodies and streams that clients were sent.", ("cluster",)),
    Metric("mk8s_central_request_stage_seconds", "histogram",
           "Time of requests that a cluster answered: admission until it leaves for the tunnel "
           "with its row written, cluster until the answer begins, answer until it has ended; the "
           "last not of watches, followed logs and upgraded connections.", ("stage",)),
    Metric("mk8s_central_refusals_total", "counter",
           "Requests and agents that central refused, by reason.", ("reason",)),
    Metric("mk8s_central_logins_total", "counter",
           "Credentials that were asked for; result is success, failure or throttled.",
           ("kind", "result")),
    Metric("mk8s_central_open_requests", "gauge",
           "Requests that are open in the tunnels.", ("cluster",)),
    Metric("mk8s_central_long_running_requests", "gauge",
           "Open watches, followed logs and upgraded connections."),
    Metric("mk8s_central_tunnels", "gauge",
           "Tunnels of agents, to each process; 0 is a cluster that cannot be reached.",
           ("cluster",)),
    Metric("mk8s_central_open_connections", "gauge", "Open connections, tunnels included."),
    Metric("mk8s_central_connections_total", "counter", "Connections that were accepted."),
    Metric("mk8s_central_connections_ended_total", "counter",
           "Connections that were one too many, by the setting below limits that says so.",
           ("limit",)),
    Metric("mk8s_central_buffered_bytes", "gauge", "Bytes that wait for slow readers."),
    Metric("mk8s_central_journal_healthy", "gauge",
           "Processes whose journal can be written; fewer than workers: requests are refused."),
    Metric("mk8s_central_journal_lag_seconds", "gauge",
           "How long the rows have been written that are being written now.", joined_by="most"),
    Metric("mk8s_central_journal_failures_total", "counter", "Writes to the journal that failed."),
    Metric("mk8s_central_journal_lost_rows_total", "counter",
           "Rows of endings given up because the journal could not be written for too long."),
    Metric("mk8s_central_shipped_rows_total", "counter",
           "Requests brought from the journals into the database."),
    Metric("mk8s_central_shipping_skipped_rows_total", "counter",
           "Rows that the database does not take."),
    Metric("mk8s_central_shipping_lost_bytes_total", "counter",
           "Bytes of journals that were removed before they were in the database."),
    Metric("mk8s_central_shipping_waiting_bytes", "gauge",
           "Bytes of journals that are not in the database yet."),
    Metric("mk8s_central_shipping_lag_seconds", "gauge",
           "For how long something has been waiting for the database.", joined_by="most"),
    Metric("mk8s_central_policy_age_seconds", "gauge",
           "Since the policy was last found current; beyond policy.lease_seconds, requests are "
           "refused.", joined_by="most"),
    Metric("mk8s_central_event_loop_delay_seconds", "histogram",
           "By how much a timer was late, once a second in each process."),
    Metric("mk8s_central_task_failures_total", "counter",
           "Turns of background tasks that failed.", ("task",)),
    Metric("mk8s_central_workers", "gauge", "Processes that these numbers are of."),
)  # fmt: skip


def collect(central: "Central", delays: list[float]) -> Snapshot:
    """The values of one process at this moment."""
    journal, shipping = central.journal, central.shipping.counters
    listener, counts = central.listener, central.journal.counts
    one: dict[str, Value] = {
        "long_running_requests": len(central.chain.long_running),
        "open_connections": len(listener.transports),
        "connections_total": listener.accepted,
        "buffered_bytes": central.buffers.used,
        "journal_healthy": float(journal.healthy),
        "journal_lag_seconds": journal.lag,
        "journal_failures_total": journal.failures,
        "journal_lost_rows_total": journal.lost_outcomes,
        "shipped_rows_total": shipping.rows,
        "shipping_skipped_rows_total": shipping.skipped,
        "shipping_lost_bytes_total": shipping.lost_bytes,
        "shipping_waiting_bytes": shipping.waiting_bytes,
        "shipping_lag_seconds": shipping.lag_seconds,
        "policy_age_seconds": central.policies.age(time.monotonic()),
        "event_loop_delay_seconds": list(delays),
        "workers": 1,
    }
    many: dict[str, dict[Labels, Value]] = {
        "request_stage_seconds": {(name,): list(it) for name, it in counts.stages.items()},
        "refusals_total": _labelled(counts.refusals.items()),
        "logins_total": {**counts.logins},
        "connections_ended_total": _labelled(listener.ended.items()),
        "task_failures_total": _labelled(central.background.failures.items()),
        **_of_clusters(central),
    }
    found = many | {name: {(): value} for name, value in one.items()}
    return {f"mk8s_central_{name}": values for name, values in found.items()}


def _of_clusters(central: "Central") -> dict[str, dict[Labels, Value]]:
    counts = central.journal.counts
    clusters: dict[str, ClusterCounts] = {"": counts.nowhere, **counts.clusters}
    tunnels = dict.fromkeys(counts.clusters, 0)
    streams = dict(tunnels)
    for session in central.tunnels.all_sessions():
        if session.cluster in tunnels:
            tunnels[session.cluster] += 1
            streams[session.cluster] += max(len(session.streams) - 1, 0)  # the control stream
    received, sent = _open_bytes(central)
    return {
        "requests_total": {
            (name, verb, code): count
            for name, it in clusters.items()
            for (verb, code), count in it.by_verb_and_code().items()
        },
        "request_bytes_total": {(n,): it.received + received[n] for n, it in clusters.items()},
        "response_bytes_total": {(n,): it.sent + sent[n] for n, it in clusters.items()},
        "tunnels": _labelled(tunnels.items()),
        "open_requests": _labelled(streams.items()),
    }


def _open_bytes(central: "Central") -> tuple[Counter[str], Counter[str]]:
    """What streams that stay open have carried: it is counted before they end, too."""
    received: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for exchange in central.chain.long_running.exchanges():
        received[exchange.cluster] += exchange.front.received
        sent[exchange.cluster] += exchange.front.sent
    return received, sent


def _labelled(values: Iterable[tuple[str, float]]) -> dict[Labels, Value]:
    return {(name,): value for name, value in values}
