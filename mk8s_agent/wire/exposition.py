"""The text of metrics that Prometheus reads, written by prometheus_client.

It is Prometheus's own format 0.0.4 or OpenMetrics, by what the scraper accepts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import core
from prometheus_client.exposition import choose_encoder

from mk8s_agent.wire.metrics import SECONDS, Labels, Metric, Snapshot


def exposition(
    metrics: Iterable[Metric], snapshot: Snapshot, accept: str = ""
) -> tuple[bytes, str]:
    """The answer to a scrape: its text and its content type.

    Args:
        metrics: all that the program has; one without a sample has its HELP and TYPE lines.
        snapshot: the values.
        accept: the scraper's Accept header.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Families(metrics, snapshot)), content_type


class _Families:
    """What prometheus_client takes for a registry."""

    def __init__(self, metrics: Iterable[Metric], snapshot: Mapping[str, Any]) -> None:
        self._metrics = metrics
        self._snapshot = snapshot

    def collect(self) -> Iterable[Any]:
        """The families, in the order of the table."""
        return [_family(it, self._snapshot.get(it.name, {})) for it in self._metrics]


def _family(metric: Metric, values: Mapping[Labels, Any]) -> Any:
    kinds = {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }
    family = kinds[metric.kind](metric.name, metric.meaning, labels=metric.labels)
    for labels, value in sorted(values.items()):
        if metric.kind == "histogram":
            family.add_metric(labels, buckets=_buckets(value), sum_value=value[-1])
        else:
            family.add_metric(labels, value)
    return family


def _buckets(value: Sequence[float]) -> list[tuple[str, float]]:
    """Prometheus's buckets hold what is below them, too."""
    found, below = [], 0.0
    for bound, count in zip((*map(str, SECONDS), "+Inf"), value[:-1], strict=True):
        below += count
        found.append((bound, below))
    return found
