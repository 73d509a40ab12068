"""A scrape of real programs: two workers of central, an agent, and the in-memory API as cluster."""

import json
import os
import signal
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mk8s_proxy.audit.counts import CODES, STAGES, VERBS
from tests.support.processes import Program, own_port, private_environment, run
from tests.support.world import AGENT, CENTRAL, MK8S, wait_until

PASSWORD = "a scraper's long password"
PODS = "/api/v1/namespaces/default/pods"
pytestmark = pytest.mark.timeout(300)  # several programs start, on a busy machine too
Samples = dict[tuple[str, tuple[str, ...]], float]


def two_ports() -> tuple[int, socket.socket]:
    """A port of our own whose successor is free too, and what keeps that so."""
    while True:
        port = own_port()
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(("127.0.0.1", port + 1))
        except OSError:
            held.close()
            continue
        return port, held


class Installation:
    """What is scraped."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.folder = folder
        self.opened = opened
        self.port, self.health = own_port(), own_port()
        self.admin, held = two_ports()
        opened.callback(held.close)
        self.url = f"https://localhost:{self.port}"
        self.tls = ssl._create_unverified_context()  # what it shows is tested elsewhere
        self.person = self.home("person")
        self.answered = 0
        """Requests that the cluster has answered well."""
        self.start()

    def home(self, name: str, **variables: str) -> dict[str, str]:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return private_environment(home, **variables)

    def start(self) -> None:
        environment = self.home(
            "central",
            MK8S_LISTEN=f"127.0.0.1:{self.port}",
            MK8S_PUBLIC_URL=self.url,
            MK8S_ADMIN_LISTEN=f"127.0.0.1:{self.admin}",
            MK8S_DATA_DIR=str(self.folder / "data"),
            MK8S_LOG_FORMAT="text",
        )
        words = ("init", "--admin", "admin@example.com", "--password-stdin")
        told = run([*CENTRAL, *words], environment, stdin=f"{PASSWORD}\n").stdout
        pin = told.partition("--ca-pin ")[2].split()[0]
        serve = Program("mk8s-central", [*CENTRAL, "serve", "--workers", "2"], environment)
        self.central = self.opened.enter_context(serve)
        self.central.wait_for_line("central.ready", seconds=120)
        login = ("login", self.url, "--email", "admin@example.com", "--password-stdin")
        run([*MK8S, *login, "--ca-pin", pin], self.person, stdin=f"{PASSWORD}\n")
        added = run([*MK8S, "admin", "clusters", "add", "prod", "-o", "json"], self.person)
        self.start_agent(json.loads(added.stdout))
        token = ("get-token", "--cluster", "prod", "--output", "token")
        self.token = run([*MK8S, *token], self.person).stdout.strip()

    def start_agent(self, joining: dict[str, str]) -> None:
        command = [sys.executable, "-m", "mk8s_cli.demo_api", "--data-dir", self.folder / "api"]
        api = self.opened.enter_context(Program("API", command, self.home("cluster")))
        api.wait_for_line("kubeconfig")
        environment = self.home(
            "cluster",
            CENTRAL_URL=self.url,
            CLUSTER_NAME="prod",
            AGENT_TOKEN=joining["join_token"],
            CA_PIN=joining["ca_pin"],
            MK8S_AGENT_HEALTH_LISTEN=f"127.0.0.1:{self.health}",
        )
        words = [*AGENT, "--kubeconfig", self.folder / "api" / "kubeconfig"]
        self.opened.enter_context(Program("mk8s-agent", words, environment))
        for number in (1, 2):  # a sum of two may be two tunnels to one worker, for a while
            opened = rf"tunnel\.opened .*\bworker={number}\b"
            self.central.wait_for_line(opened, seconds=120)

    def ask(self, path: str, *, token: str = "", method: str = "GET") -> int:
        """One request on a connection of its own, at whichever worker; its status."""
        asked = urllib.request.Request(self.url + path, method=method)
        if token:
            asked.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(asked, context=self.tls, timeout=20) as answer:
                answer.read()
                self.answered += answer.status == 200
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    def text(self, port: int, accept: str = "") -> str:
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
        if accept:
            asked.add_header("Accept", accept)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    def scrape(self, port: int) -> Samples:
        return samples_of(text_string_to_metric_families(self.text(port)))


def samples_of(families: object) -> Samples:
    return {
        (it.name, tuple(value for _, value in sorted(it.labels.items()))): it.value
        for family in families  # type: ignore[attr-defined]
        for it in family.samples
    }


def total(samples: Samples, name: str, *labels: str) -> float:
    """The sum over labels; the first ones may be fixed."""
    return sum(
        value
        for (known, values), value in samples.items()
        if known == name and values[: len(labels)] == labels
    )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with ExitStack() as opened:
        yield Installation(tmp_path_factory.mktemp("scraped"), opened)


def requests(samples: Samples) -> float:
    """Those that the cluster answered well."""
    return total(samples, "mk8s_central_requests_total", "prod", "200")


def until_counted(installation: Installation, port: int) -> Samples:
    """What another worker counted is known here within a second; nothing more than was asked."""
    count = installation.answered
    wait_until(
        lambda: requests(installation.scrape(port)) >= count, 60, lambda: installation.text(port)
    )
    found = installation.scrape(port)
    assert requests(found) == count
    return found


def test_all_workers_are_in_the_answer_of_each(installation: Installation) -> None:
    for _ in range(12):  # connections are spread over both workers
        assert installation.ask(f"/k8s/prod{PODS}", token=installation.token) == 200
    for port in (installation.admin, installation.admin + 1):
        found = until_counted(installation, port)
        assert found["mk8s_central_workers", ()] == 2
        assert found["mk8s_central_journal_healthy", ()] == 2
        assert found["mk8s_central_requests_total", ("prod", "200", "list")] >= 12
        assert found["mk8s_central_response_bytes_total", ("prod",)] > 0
        for stage in STAGES:
            assert found["mk8s_central_request_stage_seconds_count", (stage,)] >= 12
            assert found["mk8s_central_request_stage_seconds_sum", (stage,)] > 0
        assert found["mk8s_central_logins_total", ("login", "success")] == 1
        assert found["mk8s_central_logins_total", ("agent_join", "success")] == 1
        assert found["mk8s_central_tunnels", ("prod",)] >= 2
        assert found["mk8s_central_policy_age_seconds", ()] < 60


def test_openmetrics_where_it_is_asked_for(installation: Installation) -> None:
    assert installation.ask(f"/k8s/prod{PODS}", token=installation.token) == 200
    until_counted(installation, installation.admin)
    text = installation.text(installation.admin, "application/openmetrics-text; version=1.0.0")
    assert requests(samples_of(openmetrics(text))) == installation.answered


def test_the_agent_has_metrics_of_its_own(installation: Installation) -> None:
    before = installation.scrape(installation.health)["mk8s_agent_requests_total", ()]
    assert installation.ask(f"/k8s/prod{PODS}", token=installation.token) == 200
    wait_until(
        lambda: (
            installation.scrape(installation.health)["mk8s_agent_requests_total", ()] == before + 1
        ),
        60,
        lambda: installation.text(installation.health),
    )
    found = installation.scrape(installation.health)
    assert found["mk8s_agent_tunnels", ()] >= 2
    assert found["mk8s_agent_response_bytes_total", ()] > 0
    assert found["mk8s_agent_certificate_expiry_timestamp_seconds", ()] > 1e9
    assert found["mk8s_agent_event_loop_delay_seconds_count", ()] >= 0


def test_attack_strangers_make_no_series(installation: Installation) -> None:
    admin = installation.admin
    found = until_counted(installation, admin)
    clusters = {values[0] for name, values in found if name == "mk8s_central_tunnels"}
    assert clusters == {"prod"}
    bound = len(VERBS) * len(CODES)
    for number in range(8):
        assert installation.ask(f"/k8s/made-up-{number}{PODS}") in {401, 404}
        assert installation.ask(f"/k8s/made-up-{number}{PODS}", token="x") == 401
        assert installation.ask(f"/k8s/prod/apis/g{number}/v1/r", method=f"VERB{number}") >= 400
        assert installation.ask(f"/k8s/made-up-{number}{PODS}", token=installation.token) >= 400
    wait_until(
        lambda: total(installation.scrape(admin), "mk8s_central_refusals_total") > 8,
        60,
        lambda: installation.text(admin),
    )
    found = installation.scrape(admin)
    assert "made-up" not in installation.text(admin)
    series = [values for name, values in found if name == "mk8s_central_requests_total"]
    assert {cluster for cluster, _, _ in series} <= {"", "prod"}
    assert {code for _, code, _ in series} <= set(CODES)
    assert {verb for _, _, verb in series} <= set(VERBS)
    assert len(series) <= 2 * bound


def test_a_worker_that_is_killed_counts_once(installation: Installation) -> None:
    admin, central = installation.admin, installation.central
    for _ in range(6):
        assert installation.ask(f"/k8s/prod{PODS}", token=installation.token) == 200
    until_counted(installation, admin)
    pid = process_of(central.output, 2)
    seen = len(central.output.splitlines())
    os.kill(pid, signal.SIGKILL)
    central.wait_for_line("worker.ready", seconds=120, after=seen)
    for port in (admin, admin + 1):
        assert requests(installation.scrape(port)) == installation.answered
    wait_until(
        lambda: installation.ask(f"/k8s/prod{PODS}", token=installation.token) == 200,
        60,
        lambda: central.output,
    )
    until_counted(installation, admin + 1)


def process_of(output: str, number: int) -> int:
    """The process of a worker, by the log."""
    started = [line for line in output.splitlines() if "worker.started" in line]
    [line] = [line for line in started if f"worker={number} " in f"{line} "]
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    return int(words["worker_pid"])
