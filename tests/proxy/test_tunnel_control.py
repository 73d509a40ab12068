"""The conversation on a tunnel's control stream, central's side, with a real database."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mk8s_agent.wire import pki
from mk8s_agent.wire.control import (
    ControlDecoder,
    Drain,
    Heartbeat,
    HeartbeatAck,
    Message,
    Refused,
    Register,
    Registered,
    Renew,
    Renewed,
    Resources,
    Trust,
    encode_message,
)
from mk8s_proxy.authz.cluster_facts import Bounds, ClusterFacts
from mk8s_proxy.db import agents, clusters
from mk8s_proxy.db.agents import Issued, Standing
from mk8s_proxy.db.engine import Database, DatabaseUnavailable
from mk8s_proxy.identity.authorities import Authorities, AuthorityKeeper
from mk8s_proxy.identity.ca import CertificateAuthority
from mk8s_proxy.tunnel import control as control_module
from mk8s_proxy.tunnel.agent_records import AgentRecords
from mk8s_proxy.tunnel.control import TunnelControl, TunnelServices, unwanted
from mk8s_proxy.tunnel.session import TunnelEvents, TunnelSession
from tests.support.front_door import Central
from tests.support.memory import Frame, MemoryTransport, Peer, data, headers, settings
from tests.support.tasks import LooseBackground

AGENT_CA = CertificateAuthority.create("agent")
LIFE = 86_400


class Scene:
    """A tunnel of cluster `prod` that has not registered yet; the test plays the agent."""

    def __init__(self, database: Database, cluster_id: str, folder: Path) -> None:
        self.central = Central(folder)
        self.background = LooseBackground()
        self.database, self.cluster_id = database, cluster_id
        self.records = AgentRecords(database, self.background, gather_seconds=0)
        self.central.registry.follow({cluster_id: "prod"}, frozenset())
        self.transport = MemoryTransport()
        events = TunnelEvents(self.central.chain.refuse, lambda _: None, self._closed)
        self.session = TunnelSession(
            self.transport,
            self.central.ticks,
            self.central.budget,
            cluster_id=cluster_id,
            events=events,
        )
        self.decoder = ControlDecoder()
        self.peer = Peer(self.session, self.transport, self.central.ticks, server=True)
        self.frames: list[Frame] = []
        self.learned: list[tuple[Any, ...]] = []
        self.facts = ClusterFacts()
        self.peer.send(settings({1: 0, 3: 100}), headers(1, [(b":status", b"200")]))
        self.authorities = AuthorityKeeper(
            Authorities(CertificateAuthority.create("server"), AGENT_CA)
        )
        self.control = self.build()

    def build(self, lives: float = 3600.0, **more: Any) -> TunnelControl:
        services = TunnelServices(
            self.background,
            self.database,
            self.records,
            self.authorities,
            LIFE,
            self.central.registry,
            self.central.chain.tunnel_refused,
            learn_scopes=lambda *told: self.learned.append(told),
            learn_bounds=self.facts.learn_bounds,
            **({"refresh_policy": more["refresh"]} if more else {}),
        )
        end = datetime.now(UTC) + timedelta(seconds=lives)
        control = TunnelControl(self.session, services, "abc123", end)
        self.session.conversation = control
        return control

    def _closed(self, session: TunnelSession) -> None:
        self.central.registry.remove(session)
        self.control.close()

    async def send(self, *messages: Message) -> list[Message]:
        """Messages of the agent, and central's answers."""
        wire = data(1, b"".join(encode_message(message) for message in messages))
        return await self.settled(self.peer.send(wire))

    async def settled(self, seen: Sequence[Frame] = ()) -> list[Message]:
        await self.background.idle()
        seen = [*seen, *self.peer.read()]
        self.frames += seen
        answers: list[Message] = []
        for frame in seen:
            if frame.kind == "DATA" and frame.stream == 1:
                answers += self.decoder.feed(frame.value)
        return answers


@pytest.fixture
async def scene(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Scene]:
    record = await clusters.create_cluster(sqlite_database, "prod")
    end = datetime.now(UTC) + timedelta(days=1)
    await agents.record_joined(sqlite_database, record.id, Issued("abc123", "k", "pem", end))
    scene = Scene(sqlite_database, record.id, tmp_path)
    yield scene
    scene.control.close()
    await scene.background.close()


def register(**changes: Any) -> Register:
    facts: dict[str, Any] = {
        "agent_version": "1.0",
        "instance": "a1",
        "kubernetes_version": "v1.31.0",
        "capabilities": (),
        "clock": time.time(),
    }
    return Register(**(facts | changes))


async def test_an_agent_registers(scene: Scene) -> None:
    assert scene.central.registry.pick("prod") is None
    [answer] = await scene.send(register())
    assert isinstance(answer, Registered)
    assert answer.tunnel_id == "prod-a1"
    assert answer.heartbeat_seconds == 10.0
    assert abs(answer.clock - time.time()) < 60
    assert scene.central.registry.pick("prod") is scene.session
    record = await clusters.get_by_id(scene.database, scene.cluster_id)
    assert (record.agent_version, record.kubernetes_version) == ("1.0", "v1.31.0")
    assert record.last_seen is not None
    assert scene.central.registry.status(scene.cluster_id).last_seen is not None


async def test_a_cluster_that_is_upgraded_or_has_a_new_crd(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.send(register(cluster_scoped=("nodes",), namespaced=("pods",)))
    told = Resources("v1.32.0", ("gatewayclasses.gateway.networking.k8s.io", "nodes"), ("pods",))
    assert await scene.send(told) == []
    assert scene.learned == [
        ("prod", ("nodes",), ("pods",)),
        ("prod", told.cluster_scoped, told.namespaced),
    ]
    assert scene.central.registry.status(scene.cluster_id).kubernetes_version == "v1.32.0"
    monkeypatch.setattr(control_module, "_LEARN_SECONDS", 0.0)
    scene.control._learns_again = 0.0
    await scene.send(Resources("v1.33.0", (), ()))  # nobody could ask
    assert len(scene.learned) == 2
    assert scene.central.registry.status(scene.cluster_id).kubernetes_version == "v1.33.0"


async def test_attack_an_agent_whose_cluster_changes_all_the_time(scene: Scene) -> None:
    await scene.send(register())
    await scene.send(*[Resources("v1", (f"r{number}",), ()) for number in range(100)])
    assert len(scene.learned) == 1


async def test_attack_resources_of_an_agent_that_has_not_registered(scene: Scene) -> None:
    assert await scene.send(Resources("v1", ("nodes",), ())) == []
    assert scene.learned == []


async def test_what_people_may_do_in_the_cluster_is_learned_and_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(control_module, "_LEARN_SECONDS", 0.0)
    await scene.send(register(users_group="unbounded", role_groups=("mk8s:role:a",)))
    assert scene.facts.bounds_of("prod") == Bounds("unbounded", frozenset({"mk8s:role:a"}))
    await scene.send(Resources("v1", (), (), "unbounded", ("mk8s:role:a",)))
    await scene.send(Resources("v1", (), (), "bounded", ("*",)))
    await scene.send(Resources("v1", (), ()))
    assert scene.facts.bounds_of("prod") == Bounds("bounded", frozenset({"*"}))
    told = [(it.levelname, it.message) for it in caplog.records if "bounded" in it.message]
    assert told == [("WARNING", "cluster.unbounded"), ("INFO", "cluster.bounded")]


async def test_a_second_registration_is_ignored(scene: Scene) -> None:
    await scene.send(register())
    assert await scene.send(register(agent_version="2.0")) == []
    assert scene.central.registry.status(scene.cluster_id).agents == 1


async def test_nothing_is_answered_before_the_registration(scene: Scene) -> None:
    csr = pki.csr(pki.new_key(), "prod").decode()
    assert await scene.send(Heartbeat(time.time(), 0), Renew(csr), Drain()) == []
    assert scene.central.registry.pick("prod") is None


def refused(answers: list[Message]) -> str:
    [answer] = answers
    assert isinstance(answer, Refused)
    return answer.message


async def test_a_cluster_that_is_not_known(scene: Scene) -> None:
    await clusters.delete_cluster(scene.database, scene.cluster_id)
    assert "not known" in refused(await scene.send(register()))
    assert scene.central.registry.pick("prod") is None
    assert "GOAWAY" in [frame.kind for frame in scene.frames]
    assert not scene.session.registered


async def test_attack_a_certificate_that_was_recorded_for_another_cluster(scene: Scene) -> None:
    other = await clusters.create_cluster(scene.database, "staging")
    scene.session.cluster_id = other.id
    assert "not known" in refused(await scene.send(register()))
    assert scene.central.registry.pick("staging") is None


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (Standing("c1", "prod", revoked=False), ""),
        (Standing("c1", "prod", revoked=True), "revoked"),
        (Standing("c1", "", revoked=False), "not known"),
        (Standing("c2", "staging", revoked=False), "not known"),
        (None, "revoked"),
    ],
)
def test_who_may_register(standing: Standing | None, why: str) -> None:
    said = unwanted(standing, "c1")
    assert why in said
    assert bool(said) == bool(why)


@pytest.mark.parametrize("skew", [-301.0, 301.0, 86_400.0])
async def test_a_clock_that_is_wrong(scene: Scene, skew: float) -> None:
    assert "clocks" in refused(await scene.send(register(clock=time.time() + skew)))
    assert not scene.session.registered


async def test_an_agent_that_is_turned_away_leaves_a_row(scene: Scene) -> None:
    await scene.send(register(clock=time.time() - 600))
    scene.central.ticks.turn()
    [row] = scene.central.rows()
    assert row["user"]["username"] == f"agent:{scene.cluster_id}"
    assert row["responseStatus"]["code"] == 403
    assert row["annotations"]["mk8s.io/refusal"] == "TUNNEL_REFUSED"
    assert "clocks" in row["annotations"]["authorization.k8s.io/reason"]


async def test_a_clock_that_runs_off_later_ends_the_tunnel(scene: Scene) -> None:
    await scene.send(register())
    answers = await scene.send(Heartbeat(clock=time.time() + 301, streams=0))
    assert any(isinstance(answer, Refused) and "clocks" in answer.message for answer in answers)
    assert scene.session.draining


async def test_a_clock_that_is_a_little_wrong(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    [answer] = await scene.send(register(clock=time.time() + 250))
    assert isinstance(answer, Registered)
    assert "tunnel.clock" in caplog.text


async def test_e12_a_revoked_certificate(scene: Scene) -> None:
    await agents.revoke(scene.database, "abc123", "a test")
    assert "revoked" in refused(await scene.send(register()))
    assert scene.central.registry.pick("prod") is None


async def test_e12_a_revoked_certificate_is_not_renewed(scene: Scene) -> None:
    """A tunnel that was open got a fresh certificate, which nobody had revoked."""
    await scene.send(register())
    await agents.revoke(scene.database, "abc123", "a test")
    csr = pki.csr(pki.new_key(), "prod").decode()
    assert "revoked" in refused(await scene.send(Renew(csr)))
    assert scene.central.registry.pick("prod") is None


async def test_a_tunnel_that_is_lost_while_it_registers(scene: Scene) -> None:
    scene.peer.send(data(1, encode_message(register())))
    scene.session.closed = True
    await scene.settled()
    assert scene.central.registry.pick("prod") is None


async def test_heartbeats_are_answered_and_rarely_written(scene: Scene) -> None:
    await scene.send(register())
    first = await clusters.get_by_id(scene.database, scene.cluster_id)
    answers = await scene.send(*[Heartbeat(time.time(), 1)] * 3)
    assert [type(answer) for answer in answers] == [HeartbeatAck] * 3
    assert await clusters.get_by_id(scene.database, scene.cluster_id) == first
    scene.control._touched -= 31.0
    await scene.send(Heartbeat(time.time(), 1))
    later = await clusters.get_by_id(scene.database, scene.cluster_id)
    assert later.last_seen is not None
    assert first.last_seen is not None
    assert later.last_seen > first.last_seen


async def test_a_certificate_is_renewed_by_a_fresh_key(scene: Scene) -> None:
    await scene.send(register())
    key = pki.new_key()
    [answer] = await scene.send(Renew(pki.csr(key, "anything").decode()))
    assert isinstance(answer, Renewed)
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert certificate.public_key() == key.public_key()
    assert pki.cluster_id_from_certificate(answer.certificate.encode()) == scene.cluster_id
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(seconds=LIFE - 600) < left <= timedelta(seconds=LIFE)
    serial = f"{certificate.serial_number:x}"
    await agents.revoke(scene.database, "abc123", "a test")
    assert (await agents.standings(scene.database, [serial]))[serial].revoked


async def test_a_lost_answer_to_a_renewal_is_given_again(scene: Scene) -> None:
    await scene.send(register())
    csr = Renew(pki.csr(pki.new_key(), "prod").decode())
    [first] = await scene.send(csr)
    [again] = await scene.send(csr)
    assert isinstance(first, Renewed)
    assert again == first
    assert not scene.session.draining


async def test_attack_a_stolen_certificate_keeps_thief_and_owner_out(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    refreshed = []

    async def refresh() -> None:
        refreshed.append(True)

    scene.control = scene.build(refresh=refresh)
    await scene.send(register())
    await scene.send(Renew(pki.csr(pki.new_key(), "prod").decode()))
    thief = Renew(pki.csr(pki.new_key(), "prod").decode())
    assert "stolen copy, both are kept out" in refused(await scene.send(thief))
    assert refreshed
    assert "agent.certificate_reused" in caplog.text
    [agent] = await agents.list_agents(scene.database)
    assert agent.revoked_at is not None
    assert len(agent.serials) == 2
    row = scene.central.rows()[-1]
    assert "stolen copy" in row["annotations"]["authorization.k8s.io/reason"]
    assert scene.central.registry.pick("prod") is None


async def test_a_cluster_that_was_added_a_moment_ago(scene: Scene) -> None:
    """At another replica: the policy in force here does not have it yet."""
    registry = scene.central.registry
    registry.follow({}, frozenset())

    async def refresh() -> None:
        registry.follow({scene.cluster_id: "prod"}, frozenset())

    scene.control = scene.build(refresh=refresh)
    [answer] = await scene.send(register())
    assert isinstance(answer, Registered)
    assert registry.pick("prod") is scene.session


async def test_attack_an_agent_registers_while_its_cluster_is_removed(scene: Scene) -> None:
    """The database said yes before it; nobody would look at this tunnel again."""
    scene.central.registry.follow({}, frozenset())
    assert "not known" in refused(await scene.send(register()))
    assert scene.central.registry.all_sessions() == []


async def test_attack_an_agent_registers_while_it_is_revoked(scene: Scene) -> None:
    scene.central.registry.follow({scene.cluster_id: "prod"}, frozenset({"abc123"}))
    assert "revoked" in refused(await scene.send(register()))
    assert scene.central.registry.all_sessions() == []


async def test_a_flood_of_renewals_is_one(scene: Scene) -> None:
    await scene.send(register())
    csr = Renew(pki.csr(pki.new_key(), "prod").decode())
    assert len(await scene.send(*[csr] * 20)) == 1
    assert len(await scene.send(csr)) == 1


async def test_a_request_for_a_certificate_that_is_none(scene: Scene) -> None:
    await scene.send(register())
    name = x509.Name([])
    weak = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(weak, hashes.SHA256())
    pem = pki.csr(pki.new_key(), "prod").decode().replace("MI", "AA", 1)
    assert "no certificate" in refused(await scene.send(Renew(pem)))
    rsa_pem = csr.public_bytes(Encoding.PEM).decode()
    assert "no certificate" in refused(await scene.send(Renew(rsa_pem)))


async def test_a_tunnel_ends_with_its_certificate(scene: Scene) -> None:
    await scene.send(register())
    scene.session.second(1.0)
    assert not scene.session.closed
    scene.control.close()
    scene.control = scene.build(lives=-1.0)
    scene.session.second(1.0)
    assert scene.session.closed
    assert scene.session.close_reason == "the agent's certificate has expired"
    assert await scene.settled() == [Drain()]
    assert scene.central.registry.pick("prod") is None


async def test_whatever_goes_wrong_costs_one_message(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_args: object) -> bool:
        raise RuntimeError("the database is gone")

    monkeypatch.setattr(agents, "standings", fail)
    assert "try again" in refused(await scene.send(register()))  # the agent dials anew
    assert "the database is gone" in caplog.text
    assert not scene.session.closed


async def test_a_database_that_does_not_answer_admits_nobody(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_args: object) -> bool:
        raise DatabaseUnavailable("the database failed")

    monkeypatch.setattr(agents, "standings", fail)
    assert "the database failed" in refused(await scene.send(register()))
    assert scene.central.registry.pick("prod") is None


# -- another authority follows


def rotating(scene: Scene, *, settled: bool) -> Authorities:
    """A rotation is under way, whose new agent CA signs already or does not yet."""
    before = scene.authorities.current
    made = Authorities(
        before.server_ca,
        before.agent_ca,
        CertificateAuthority.create("server"),
        CertificateAuthority.create("agent"),
        rotated_at=datetime.now(UTC) + timedelta(seconds=0 if settled else 3600),
    )
    scene.authorities.current = made
    scene.session.issuer = before.agent_ca.key_id
    return made


async def trust_told(scene: Scene) -> list[Message]:
    scene.control.second()
    return await scene.settled()


async def test_an_agent_is_told_whom_to_trust_and_again_when_that_changes(scene: Scene) -> None:
    now = datetime.now(UTC)
    pem = scene.authorities.servers_pem(now).decode()
    assert await trust_told(scene) == [], "before it has registered"
    [_, first] = await scene.send(register(capabilities=("trust",)))
    assert first == Trust(pem, 0.0)
    assert await trust_told(scene) == []
    rotating(scene, settled=False)
    [second] = await trust_told(scene)
    assert isinstance(second, Trust)
    assert second.authorities.startswith(pem)
    assert second.renew_seconds == 0.0
    rotating(scene, settled=True)
    [third] = await trust_told(scene)
    assert isinstance(third, Trust)
    assert third.renew_seconds == control_module.MOVE_SECONDS
    following = scene.authorities.current.next_agent_ca
    assert following is not None
    scene.session.issuer = following.key_id  # it came back with a certificate of the new one
    [fourth] = await trust_told(scene)
    assert fourth == Trust(third.authorities, 0.0)


async def test_an_older_agent_is_told_nothing_that_it_does_not_know(scene: Scene) -> None:
    rotating(scene, settled=True)
    assert len(await scene.send(register())) == 1
    assert await trust_told(scene) == []


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("knows", [False, True])
async def test_the_new_authority_signs_for_those_who_would_know_central_afterwards(
    scene: Scene, settled: bool, knows: bool
) -> None:
    made = rotating(scene, settled=settled)
    assert made.next_server_ca is not None
    assert made.next_agent_ca is not None
    await scene.send(register(capabilities=("trust",)))
    trusts = (made.server_ca.pin, made.next_server_ca.pin) if knows else (made.server_ca.pin,)
    csr = pki.csr(pki.new_key(), "prod").decode()
    [answer] = [it for it in await scene.send(Renew(csr, trusts)) if isinstance(it, Renewed)]
    signer = made.next_agent_ca if settled and knows else made.agent_ca
    assert signer.issued(answer.certificate.encode())


async def test_attack_a_certificate_of_a_retired_authority_registers_nothing(scene: Scene) -> None:
    made = rotating(scene, settled=True)
    assert made.next_agent_ca is not None
    scene.central.registry.trust(frozenset({made.next_agent_ca.key_id}))
    [answer] = await scene.send(register())
    assert isinstance(answer, Refused)
    assert "was retired: join again" in answer.message
    assert scene.central.registry.pick("prod") is None


async def test_a_retired_authority_ends_the_tunnels_of_its_agents(scene: Scene) -> None:
    scene.session.issuer = AGENT_CA.key_id
    await scene.send(register())
    registry = scene.central.registry
    registry.trust(frozenset({AGENT_CA.key_id}))
    assert registry.pick("prod") is scene.session
    assert registry.serials_not_of(AGENT_CA.key_id) == set()
    assert registry.serials_not_of("another") == {"abc123"}
    registry.trust(frozenset({"another"}))
    assert registry.pick("prod") is None
    assert scene.session.closed
