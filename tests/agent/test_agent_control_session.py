"""The agent's half of the control stream: a transcript for each thing that can happen."""

import logging

import pytest

from mk8s_agent.identity.renewal import IdentityKeeper
from mk8s_agent.tunnel.control_session import CAPABILITIES, ControlEvents, ControlSession, Facts
from mk8s_agent.wire import control
from tests.agent.pki_for_tests import Clock, Issuer
from tests.support.logged import logged

START = 1_800_000_000.0
LIFE = 86_400.0


class Tunnel:
    """What a session is made with, and what it did."""

    def __init__(self, keeper: IdentityKeeper, clock: Clock) -> None:
        self.sent: list[control.Message] = []
        self.events: list[str] = []
        self.requests = 3
        self.clock = clock
        self.facts = Facts("1.0", "a1", "v1.31.0")
        self.session = ControlSession(
            self.sent.append,
            ControlEvents(
                registered=lambda: self.events.append("registered"),
                draining=lambda: self.events.append("draining"),
                failed=lambda reason: self.events.append(f"failed: {reason}"),
            ),
            self.facts,
            keeper,
            lambda: self.requests,
            clock=clock,
            monotonic=clock,
        )

    def registered(self) -> "Tunnel":
        self.session.start()
        self.session.receive(control.Registered("t1", 10.0, self.clock()))
        self.sent.clear()
        self.events.clear()
        return self


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def keeper(issuer: Issuer, clock: Clock) -> IdentityKeeper:
    identity = issuer.identity("c1", START, START + LIFE)
    made = IdentityKeeper(identity, print, clock, lambda it: made.stored(it))  # noqa: PLW0108  made later
    return made


@pytest.fixture
def tunnel(keeper: IdentityKeeper, clock: Clock) -> Tunnel:
    return Tunnel(keeper, clock)


def test_register(tunnel: Tunnel) -> None:
    tunnel.session.start()
    assert tunnel.sent == [control.Register("1.0", "a1", "v1.31.0", CAPABILITIES, START)]
    assert tunnel.session.tunnel_id == ""
    tunnel.session.receive(control.Registered("t1", 10.0, 0.0, "w1", 2))
    assert tunnel.events == ["registered"]
    assert tunnel.session.tunnel_id == "t1"
    assert (tunnel.session.instance, tunnel.session.instances) == ("w1", 2)


def test_heartbeats_when_they_are_due(tunnel: Tunnel, clock: Clock) -> None:
    tunnel.registered()
    clock.now += 9.9
    tunnel.session.tick()
    assert tunnel.sent == []
    clock.now += 0.1
    tunnel.session.tick()
    tunnel.session.tick()
    assert tunnel.sent == [control.Heartbeat(START + 10, 3)]


def test_what_changes_about_the_cluster_is_told_again(tunnel: Tunnel, clock: Clock) -> None:
    """An upgrade, or a new CRD: with the next heartbeat, and once."""
    tunnel.facts.cluster_scoped = ("nodes",)
    tunnel.registered()
    tunnel.facts.kubernetes_version = "v1.32.0"
    tunnel.facts.cluster_scoped = ("gatewayclasses.gateway.networking.k8s.io", "nodes")
    tunnel.session.tick()
    assert tunnel.sent == []
    for _ in range(2):
        clock.now += 10
        tunnel.session.tick()
    told = control.Resources("v1.32.0", tunnel.facts.cluster_scoped, ())
    assert [it for it in tunnel.sent if not isinstance(it, control.Heartbeat)] == [told]
    assert tunnel.sent.index(told) == 1


def test_central_that_answers_heartbeats_is_kept(tunnel: Tunnel, clock: Clock) -> None:
    tunnel.registered()
    for _ in range(20):
        clock.now += 10
        tunnel.session.tick()
        tunnel.session.receive(control.HeartbeatAck(clock()))
    assert tunnel.events == []


def test_central_that_answers_no_heartbeat_is_given_up(tunnel: Tunnel, clock: Clock) -> None:
    tunnel.registered()
    clock.now += 40
    tunnel.session.tick()
    assert tunnel.events == ["failed: central does not answer heartbeats"]
    tunnel.session.tick()
    tunnel.session.receive(control.Drain())
    assert len(tunnel.events) == 1  # what is over stays over


def test_central_that_never_registers_is_given_up(tunnel: Tunnel, clock: Clock) -> None:
    tunnel.session.start()
    clock.now += 14.9
    tunnel.session.tick()
    assert tunnel.events == []
    clock.now += 0.1
    tunnel.session.tick()
    assert tunnel.events == ["failed: central does not answer the registration"]


def test_refused_registration_says_why(tunnel: Tunnel) -> None:
    tunnel.session.start()
    tunnel.session.receive(control.Refused("the clock is 400 seconds off"))
    assert tunnel.events == ["failed: central refused the tunnel: the clock is 400 seconds off"]


def test_drain(tunnel: Tunnel) -> None:
    tunnel.registered().session.receive(control.Drain())
    assert tunnel.events == ["draining"]


@pytest.mark.parametrize(
    "message",
    [
        control.Register("1", "a", "", (), 0.0),
        control.Heartbeat(0.0, 0),
        control.Renew("-----BEGIN "),
        control.Resources("", (), ()),
    ],
)
def test_messages_of_the_wrong_direction(tunnel: Tunnel, message: control.Message) -> None:
    tunnel.registered().session.receive(message)
    assert tunnel.events == ["failed: central sent a message that only agents send"]


def test_registered_twice_or_without_an_id(tunnel: Tunnel) -> None:
    tunnel.registered().session.receive(control.Registered("t2", 10.0))
    assert tunnel.events == ["failed: central registered the tunnel twice, or without an id"]


def test_a_newer_central_is_borne(tunnel: Tunnel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tunnel.registered().session.receive(control.Unknown("telemetry"))
    assert tunnel.events == []
    assert "kind=telemetry" in logged(caplog)


def test_clock_ten_minutes_off(
    tunnel: Tunnel, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tunnel.registered()
    assert tunnel.session.skew == 0
    for _ in range(3):
        tunnel.session.receive(control.HeartbeatAck(clock() + 600))
    assert tunnel.session.skew == -600
    assert logged(caplog).count("check the clock of this machine") == 1
    tunnel.session.receive(control.HeartbeatAck(clock()))
    tunnel.session.receive(control.HeartbeatAck(clock() - 61))
    assert logged(caplog).count("check the clock of this machine") == 2


def test_renewal_at_two_thirds_of_the_life(
    tunnel: Tunnel, keeper: IdentityKeeper, issuer: Issuer, clock: Clock
) -> None:
    tunnel.registered()
    first = keeper.current
    clock.now = START + LIFE * 2 / 3 - 1
    tunnel.session.receive(control.HeartbeatAck())
    tunnel.session.tick()
    assert not [message for message in tunnel.sent if isinstance(message, control.Renew)]
    clock.now += 1
    tunnel.session.tick()
    tunnel.session.tick()
    (renew,) = [message for message in tunnel.sent if isinstance(message, control.Renew)]
    certificate = issuer.sign(renew.csr.encode(), "c1", clock(), clock() + LIFE)
    tunnel.session.receive(control.Renewed(certificate.decode()))
    assert keeper.current.certificate_pem == certificate
    assert keeper.current.private_key_pem != first.private_key_pem
    assert keeper.current.authority_pem == first.authority_pem


def test_one_renewal_for_all_tunnels(keeper: IdentityKeeper, clock: Clock) -> None:
    tunnels = [Tunnel(keeper, clock).registered() for _ in range(3)]
    clock.now = START + LIFE * 0.7
    for tunnel in tunnels:
        tunnel.session.receive(control.HeartbeatAck())
        tunnel.session.tick()
    asked = [message for it in tunnels for message in it.sent if isinstance(message, control.Renew)]
    assert len(asked) == 1


def test_refused_renewal_keeps_the_tunnel_and_is_tried_again(
    tunnel: Tunnel, keeper: IdentityKeeper, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tunnel.registered()
    clock.now = START + LIFE * 0.7
    tunnel.session.receive(control.HeartbeatAck())
    tunnel.session.tick()
    tunnel.session.receive(control.Refused("the database is down"))
    assert tunnel.events == []
    assert "the database is down" in logged(caplog)
    assert not keeper.renewal_due()
    clock.now += 90
    assert keeper.renewal_due()


def test_a_tunnel_that_ends_while_renewing_leaves_it_to_the_others(
    tunnel: Tunnel, keeper: IdentityKeeper, clock: Clock
) -> None:
    tunnel.registered()
    clock.now = START + LIFE * 0.7
    tunnel.session.receive(control.HeartbeatAck())
    tunnel.session.tick()
    assert not keeper.renewal_due()
    tunnel.session.close("central closed the connection")
    clock.now += 91
    assert keeper.renewal_due()
