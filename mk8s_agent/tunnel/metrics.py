"""What `/metrics` of an agent shows, and what the tunnels count for it.

An agent knows neither people nor verbs: who asked for what is among the metrics of central.
"""

from typing import Final

from mk8s_agent.wire.metrics import Metric

METRICS: Final = (
    Metric("mk8s_agent_requests_total", "counter", "Requests of central that have ended."),
    Metric("mk8s_agent_open_requests", "gauge", "Requests that are open in the tunnels."),
    Metric("mk8s_agent_request_bytes_total", "counter",
           "Bytes of bodies and streams for the API server, of requests that have ended."),
    Metric("mk8s_agent_response_bytes_total", "counter",
           "Bytes of bodies and streams for central, of requests that have ended."),
    Metric("mk8s_agent_errors_total", "counter",
           "Answers of the agent's own: 502 is a failure, 503 says that nothing reached the API "
           "server.", ("code",)),
    Metric("mk8s_agent_tunnels", "gauge", "Tunnels to central."),
    Metric("mk8s_agent_tunnels_opened_total", "counter", "Tunnels that central has registered."),
    Metric("mk8s_agent_waiting_requests", "gauge",
           "Requests that wait for a connection to the API server."),
    Metric("mk8s_agent_buffered_bytes", "gauge", "Bytes that wait for slow readers."),
    Metric("mk8s_agent_certificate_expiry_timestamp_seconds", "gauge",
           "When the agent's certificate ends; it is renewed after two thirds of its life."),
    Metric("mk8s_agent_event_loop_delay_seconds", "histogram",
           "By how much a timer was late, once a second."),
    Metric("mk8s_agent_task_failures_total", "counter",
           "Turns of background tasks that failed.", ("task",)),
)  # fmt: skip


class TunnelCounts:
    """What all tunnels of an agent have carried."""

    __slots__ = ("errors", "received", "requests", "sent")

    def __init__(self) -> None:
        self.requests = 0
        self.received = 0
        self.sent = 0
        self.errors: dict[int, int] = {}
        """The agent's own answers, by status."""
