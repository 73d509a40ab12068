"""The relay benchmark's own arithmetic and parsers; the benchmark never runs in the tests."""

import json
from pathlib import Path

import pytest

from mk8s_agent.wire import hpack_codec
from mk8s_agent.wire.http2 import frames
from mk8s_proxy.authz.policy import parse_rbac
from tests.bench.relay import (
    accounting,
    catalogue,
    cross_check,
    growth,
    product,
    publish,
    report,
    stub,
)
from tests.bench.relay.certificates import go_token, make_certificates
from tests.bench.relay.figures import meets, percentile, ratios, shown, spread
from tests.bench.relay.goals import GOALS, judge
from tests.bench.relay.load import Loop, compose
from tests.bench.relay.load_http1 import Http1Load
from tests.bench.relay.load_http2 import Http2Load
from tests.bench.relay.load_sockets import LoadError
from tests.bench.relay.results import Results
from tests.bench.relay.targets import BODY_BYTES, USERS

SCHEDSTAT = "123456789 5000 42\n"
STAT = "42 (a (strange) name) S 7 42 42 0 -1 4194304 1 2 3 4 250 130 0 0 20 0 1 0 99 0 0"
H2LOAD = """
finished in 1.02s, 19583.45 req/s, 41.20MB/s
requests: 20000 total, 20000 started, 20000 done, 19990 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 19990 2xx, 0 3xx, 10 4xx, 0 5xx
"""


class TestArithmetic:
    def test_a_percentile_is_a_value_that_was_measured(self) -> None:
        values = [float(number) for number in range(1, 101)]
        assert (percentile(values, 50), percentile(values, 99)) == (50.0, 99.0)
        assert (percentile([7.0], 99), percentile([], 50)) == (7.0, 0.0)

    def test_a_ratio_is_that_of_the_medians_and_its_span_that_of_the_rounds(self) -> None:
        found = ratios([10.0, 20.0, 30.0], [100.0, 100.0, 400.0])
        assert found is not None
        assert found.median == pytest.approx(0.2)
        assert (found.low, found.high) == pytest.approx((0.075, 0.2))

    def test_without_a_peer_there_is_no_ratio(self) -> None:
        assert ratios([1.0], []) is None
        assert ratios([1.0], [0.0]) is None
        assert spread([]) is None

    def test_a_target_is_met_on_its_right_side_only(self) -> None:
        assert meets(0.24, 0.25, at_least=False)
        assert not meets(0.26, 0.25, at_least=False)
        assert meets(1.8, 1.7, at_least=True)
        assert not meets(1.6, 1.7, at_least=True)

    def test_numbers_are_shown_with_three_digits(self) -> None:
        assert [shown(it) for it in (0, 0.1234, 1.234, 12.34, 12345.6)] == [
            "0", "0.123", "1.23", "12.3", "12,346",
        ]  # fmt: skip

    def test_each_round_begins_with_another_target(self) -> None:
        target = stub.direct
        row = [target(stub.Stub(port, None)) for port in (1, 2, 3)]  # type: ignore[arg-type]
        starts = [catalogue.turn(row, number)[0].address[1] for number in range(4)]
        assert starts == [1, 2, 3, 1]


class TestAccounts:
    def test_schedstat_counts_nanoseconds(self) -> None:
        assert accounting.parse_schedstat(SCHEDSTAT) == 123456789

    def test_a_process_name_with_brackets_and_blanks_moves_no_field(self) -> None:
        assert accounting.parse_parent(STAT) == 7
        assert accounting.parse_ticks(STAT) == 380

    def test_pss_is_in_bytes(self) -> None:
        assert accounting.parse_pss("Rss: 9 kB\nPss:     12 kB\nPss_Anon: 3 kB\n") == 12288
        with pytest.raises(ValueError, match="Pss"):
            accounting.parse_pss("Rss: 9 kB\n")


class TestH2load:
    def test_refusals_are_seen(self) -> None:
        assert cross_check.parse(H2LOAD) == (19583.45, 19990, 10)

    def test_no_summary_is_an_error(self) -> None:
        with pytest.raises(LoadError):
            cross_check.parse("connection refused")


class TestReport:
    def test_a_goal_without_figures_is_not_measured(self) -> None:
        assert {it.met for it in judge(Results(), compiled=False)} == {"not measured"}

    def test_a_goal_is_judged_by_the_build_it_was_measured_with(self) -> None:
        results = Results()
        results.add("h2 c32", "product", {"cpu_us": 20.0})
        results.add("h2 c32", "go-tunnel-400", {"cpu_us": 100.0})
        pure, compiled = (judge(results, compiled=it)[0].met for it in (False, True))
        assert (pure, compiled) == ("yes", "no")

    def test_the_text_names_every_goal_and_note(self) -> None:
        results = Results()
        results.add("h2 c1", "product", {"p99_us": 1.0})
        results.add("h2 c1", "go-tunnel", {"p99_us": 4.0})
        results.note("haproxy is not installed")
        told = report.text(results, {"date": "today"}, "1 round")
        assert all(goal.title in told for goal in GOALS)
        assert "haproxy is not installed" in told

    def test_growth_is_judged_against_the_smallest_size(self) -> None:
        results = Results()
        for size, ratio in (("10", 0.9), ("1000", 1.2)):
            results.add("growth: roles", size, {"ratio": ratio})
        assert "NOT flat" in growth.verdicts(results)[0]
        assert "1.33" in growth.verdicts(results)[0]

    def test_the_results_get_the_targets_of_all_builds_and_the_growth(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        results, grown = Results(), Results()
        results.add("h2 c32", "product", {"cpu_us": 20.0})
        results.add("h2 c32", "go-tunnel-400", {"cpu_us": 100.0})
        grown.note("growth of roles: flat")
        made = dict.fromkeys(("commit", "cpu", "date"), "x")
        made |= {"python": "CPython 3.13.5", "tls": "OpenSSL 3.5.7 9 Jun 2026"}
        files = []
        for name, found in (("pure", results), ("compiled", results), ("grown", grown)):
            monkeypatch.setattr(report, "is_compiled", lambda name=name: name == "compiled")
            files.append(tmp_path / name / "report.json")
            files[-1].parent.mkdir()
            report.write_json(files[-1], found, made | {"build": name}, "5 rounds; more")
            files[-1].with_name("report.png").write_text(name)
        kept_in = tmp_path / "RESULTS.md"
        kept_in.write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
        publish.publish(files, kept_in, tmp_path)
        told = kept_in.read_text()
        title = "| CPU/request 2 KB h2 c32, stub | go-tunnel-400 | "
        assert f"{title}0.20 (<= 0.25) | **0.20** (<= 0.18) |\n" in told
        compiled = "compiled, CPython 3.13, OpenSSL 3.5"
        assert f" | {compiled} |\n" in told
        assert f"- {compiled}: 5 rounds, commit x, x, x.\n- growth of roles: flat\n" in told
        assert told.startswith("before\n")
        assert told.endswith("after\n")
        kept = [(tmp_path / name).read_text() for name in ("targets.png", "growth.png")]
        assert kept == ["pure", "grown"]

    def test_what_a_run_lacks_comes_from_the_next_one_of_its_build(self) -> None:
        first, second = Results(), Results()
        first.add("h2 c32", "product", {"cpu_us": 20.0})
        first.add("h2 c32", "go-tunnel-400", {"cpu_us": 100.0})
        second.add("h2 c32", "product", {"cpu_us": 90.0})
        second.add("h2 c32", "go-tunnel-400", {"cpu_us": 100.0})
        second.add("tunnels", "product", {"kib.central": 10.0})
        second.add("tunnels", "go-tunnel", {"kib.central": 20.0})
        machine = {"build": "b", "python": "P 3.1.2", "tls": "T 3.5.1", "date": "d"}
        machine |= {"commit": "c", "cpu": "1"}
        reports = [
            {"machine": machine, "setting": "1 round; x", "targets": report.targets(it)}
            for it in (first, second)
        ]
        told = publish.table(reports)
        assert "| peer | b, P 3.1, T 3.5 |\n" in told
        assert "| CPU/request 2 KB h2 c32, stub | go-tunnel-400 | 0.20 (" in told
        assert "| KiB per tunnel at central | go-tunnel | 0.50 (" in told

    def test_what_is_no_report_is_not_published(self, tmp_path: Path) -> None:
        (tmp_path / "other.json").write_text("{}")
        with pytest.raises(ValueError, match="no report"):
            publish.publish([tmp_path / "other.json"], tmp_path / "RESULTS.md")


class Wire:
    """A socket of the generator whose server is the test."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.waiting = 0
        self.arrived = b""
        self.sent = b""

    def read(self) -> bytes:
        return self.arrived

    def write(self, data: bytes) -> bool:
        self.sent += data
        return True


def head(status: bytes, stream: int) -> bytes:
    block = hpack_codec.block([(b":status", status)])
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)


def data(size: int, stream: int) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM, stream, bytes(size))


class TestGenerator:
    def http2(self, loop: Loop) -> tuple[Http2Load, Wire]:
        wire = Wire("h2")
        return Http2Load(wire, loop.done, loop.begin), wire  # type: ignore[arg-type]

    def test_http2_answers_are_counted_in_any_cut(self) -> None:
        loop = Loop([b"\x82"], 5, 5)
        loop.left = 2
        connection, wire = self.http2(loop)
        loop.issue(connection, 1.0)
        loop.issue(connection, 1.0)
        answers = head(b"200", 1) + data(5, 1) + head(b"200", 3) + data(5, 3)
        for byte in range(len(answers)):
            wire.arrived = answers[byte : byte + 1]
            connection.readable()
        assert (len(loop.latencies), loop.bytes, loop.in_flight) == (2, 10, 0)

    def test_a_refusal_ends_the_run(self) -> None:
        loop = Loop([b"\x82"], 5, 5)
        loop.left = 1
        connection, wire = self.http2(loop)
        loop.issue(connection, 1.0)
        wire.arrived = head(b"403", 1)
        with pytest.raises(LoadError, match="403"):
            connection.readable()

    def test_a_body_of_another_length_ends_the_run(self) -> None:
        loop = Loop([b"\x82"], 5, 5)
        loop.left = 1
        connection, wire = self.http2(loop)
        loop.issue(connection, 1.0)
        wire.arrived = head(b"200", 1) + data(4, 1)
        with pytest.raises(LoadError, match="4 bytes"):
            connection.readable()

    def test_http1_answers_are_counted_in_any_cut(self) -> None:
        loop = Loop([b"GET"], 3, 3)
        loop.left = 1
        wire = Wire("http/1.1")
        connection = Http1Load(wire, loop.done)  # type: ignore[arg-type]
        loop.issue(connection, 1.0)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
        for byte in range(len(answer)):
            wire.arrived = answer[byte : byte + 1]
            connection.readable()
        assert (len(loop.latencies), loop.bytes) == (1, 3)

    def test_an_http1_refusal_ends_the_run(self) -> None:
        wire = Wire("")
        connection = Http1Load(wire, lambda *_told: None)  # type: ignore[arg-type]
        wire.arrived = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
        with pytest.raises(LoadError, match="503"):
            connection.readable()

    def test_every_token_and_path_has_its_turn(self) -> None:
        pairs = [[f"/{number}", f"token-{number}"] for number in range(3)]
        heads = compose("http/1.1", "localhost", pairs)
        loop = Loop(heads, 0, 0)
        loop.left = 4
        asked: list[bytes] = []

        class Recorder:
            def request(self, block: bytes, _now: float) -> None:
                asked.append(block)

        for _ in range(4):
            loop.issue(Recorder(), 0.0)  # type: ignore[arg-type]
        assert asked == [*heads, heads[0]]

    def test_an_http2_head_is_readable_by_a_server(self) -> None:
        (block,) = compose("h2", "localhost", [["/a", "secret"]])
        fields = hpack_codec.Decoder(0, 1 << 16).decode(block)
        assert (b":path", b"/a") in fields
        assert (b"authorization", b"Bearer secret") in fields


class TestWorld:
    def test_the_policy_is_one_that_central_takes(self) -> None:
        document = parse_rbac(product.policy(20, USERS, 10))
        assert sum(len(role.rules) for role in document.roles) == 200
        assert len(document.users) == USERS

    def test_the_stub_answers_exactly_2_kib_that_nginx_can_quote(self) -> None:
        body = stub.small_body()
        assert len(body) == BODY_BYTES
        assert json.loads(body)["kind"] == "ConfigMap"
        assert not set(body) & set("'$")

    def test_go_tokens_are_as_the_go_tunnel_reads_them(self, tmp_path) -> None:
        made = make_certificates(tmp_path / "tls")
        token = go_token(made.go_key, "user-1@example.com", 60)
        assert token.count(".") == 2
        assert (made.folder / "jwt.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----")
