"""The certificate authorities over the management API: seen, rotated, retired, by admins only."""

import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.wire import pki
from mk8s_proxy.api import ca
from mk8s_proxy.db import agents
from mk8s_proxy.db.agents import AgentRecord, Issued
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.authorities import AuthorityKeeper, ensure_authorities
from mk8s_proxy.identity.ca import CertificateAuthority
from mk8s_proxy.settings.model import TlsSettings
from tests.support.management_api import NOW, Central, csr

SETTLE = 100.0
NOW_UTC = datetime.fromtimestamp(NOW, UTC)


@pytest.fixture
async def central(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    """It follows its authorities as `app` has it."""
    made, _ = await ensure_authorities(sqlite_database)
    central = await Central.start(sqlite_database, tmp_path)
    keeper = central.context.authorities = AuthorityKeeper(made, SETTLE)
    central.feed.on_change(lambda feed: keeper.take(feed.rows.authorities))
    yield central
    await central.close()


async def asked(central: Central, method: str = "GET", action: str = "", body: Any = None) -> Any:
    path = f"/ca/{action}" if action else "/ca"
    answer = await central.call(method, path, body, token=await central.admin())
    assert answer.status == 200, answer.raw
    return answer.json


def statuses(answer: Any) -> list[str]:
    return [f"{it['purpose']} {it['status']}" for it in answer["authorities"]]


async def agent_of(central: Central, serial: str) -> None:
    """An agent of dev-1 whose certificate is of the authority that signs now."""
    cluster = await central.add_cluster(f"dev-{serial}")
    now = datetime.fromtimestamp(central.now, UTC)
    signer = central.context.authorities.following(now)
    signer = signer or central.context.authorities.current.agent_ca
    signed = signer.sign_agent(csr().encode(), cluster["id"], now=now, life=timedelta(days=1))
    issued = Issued(serial, "k", signed.certificate_pem.decode(), signed.not_after)
    await agents.record_joined(central.database, cluster["id"], issued)


async def test_a_whole_rotation(central: Central) -> None:
    await agent_of(central, "a1")
    before = await asked(central)
    assert statuses(before) == ["server signing", "agent signing"]
    assert before["rotation"] is None

    begun = await asked(central, "POST", "rotate")
    assert statuses(begun) == ["server signing", "server next", "agent signing", "agent next"]
    row = central.last_row()
    assert (row["verb"], row["objectRef"]["resource"]) == ("rotate", "certificateauthorities")
    assert row["user"]["username"] == "admin@example.com"
    for action in ("rotate", "retire"):
        refused = await central.call("POST", f"/ca/{action}", {}, token=await central.admin())
        assert refused.status == 409
    assert "signs only from" in refused.message

    central.now += SETTLE
    settled = await asked(central)
    assert statuses(settled) == ["server signing", "server next", "agent leaving", "agent signing"]
    (waiting,) = settled["rotation"]["waiting_agents"]
    assert (waiting["cluster"], waiting["id"]) == ("dev-a1", "a1")
    assert waiting["reason"] == "its certificate is of the old authority"
    refused = await central.call("POST", "/ca/retire", {}, token=await central.admin())
    assert refused.status == 409
    assert "1 agents have not moved to the new authority yet: a1 of dev-a1;" in refused.message

    ended = await asked(central, "POST", "retire", {"force": True})
    assert statuses(ended) == ["server signing", "agent signing"]
    assert ended["authorities"][0]["pin"] == begun["authorities"][1]["pin"]
    assert central.last_row()["objectRef"]["name"] == "force"
    assert "PRIVATE" not in str(ended)


async def test_agents_that_have_moved_or_ended_are_not_waited_for(central: Central) -> None:
    await agent_of(central, "a1")
    await asked(central, "POST", "rotate")
    central.now += 3 * 86_400.0  # the certificate has ended
    await agent_of(central, "a2")
    assert (await asked(central))["rotation"]["waiting"] == 0
    central.tunnels.outdated = {"a2"}
    (waiting,) = (await asked(central))["rotation"]["waiting_agents"]
    assert "still open on a tunnel of its old certificate" in waiting["reason"]
    central.tunnels.outdated = set()
    await agents.revoke(central.database, "a2", "stolen")
    assert statuses(await asked(central, "POST", "retire", {})) == [
        "server signing",
        "agent signing",
    ]


async def test_many_agents_are_counted_and_some_named(central: Central) -> None:
    for number in range(7):
        await agent_of(central, f"b{number}")
    await asked(central, "POST", "rotate")
    central.now += SETTLE
    refused = await central.call("POST", "/ca/retire", {}, token=await central.admin())
    assert "7 agents have not moved" in refused.message
    assert "and 2 more" in refused.message


async def test_a_certificate_of_a_release_that_kept_none_counts_as_old(central: Central) -> None:
    cluster = await central.add_cluster("dev-9")
    end = datetime.fromtimestamp(NOW, UTC) + timedelta(days=1)
    await agents.record_joined(central.database, cluster["id"], Issued("c1", "k", "", end))
    await asked(central, "POST", "rotate")
    assert (await asked(central))["rotation"]["waiting"] == 1


async def test_attack_a_stranger_and_a_developer_can_do_none_of_it(central: Central) -> None:
    developer = await central.token()
    for method, path in (("GET", "/ca"), ("POST", "/ca/rotate"), ("POST", "/ca/retire")):
        body: dict[str, Any] | None = {} if method == "POST" else None
        assert (await central.call(method, path, body)).status == 401
        assert (await central.call(method, path, body, token=developer)).status == 403
    assert (await asked(central))["rotation"] is None


async def test_nothing_to_retire(central: Central) -> None:
    answer = await central.call("POST", "/ca/retire", {}, token=await central.admin())
    assert answer.status == 409
    assert "no rotation is under way" in answer.message


async def test_what_is_published_follows_the_rotation(central: Central) -> None:
    keeper = central.context.authorities

    async def published() -> tuple[str, ...]:
        answer = await central.call("GET", "/ca.pem")
        digest = keeper.fingerprint(central.context.now())
        assert answer.headers["x-mk8s-trust"] == digest
        return pki.spki_pins(answer.raw)

    (old,) = await published()
    await asked(central, "POST", "rotate")
    old_again, new = await published()
    assert old_again == old
    joined = await central.add_cluster("dev-5")
    assert joined["ca_pin"] == old, "which signs what central shows"
    central.now += SETTLE
    body = {"token": joined["join_token"], "cluster": "dev-5", "csr": csr("dev-5")}
    answer = (await central.call("POST", "/join", body)).json
    assert pki.spki_pins(answer["ca_certificate"].encode()) == (old, new)
    following = keeper.current.next_agent_ca
    assert following is not None
    assert following.issued(answer["certificate"].encode())
    await asked(central, "POST", "retire", {"force": True})
    assert await published() == (new, old), "some replica may show the old one still"
    central.now += SETTLE
    assert await published() == (new,)


async def test_with_a_certificate_of_the_operator_nobody_is_told_to_trust_another(
    central: Central,
) -> None:
    tls = TlsSettings(Path("/tls.crt"), Path("/tls.key"))
    central.context.settings = dataclasses.replace(central.context.settings, tls=tls)
    assert "x-mk8s-trust" not in (await central.call("GET", "/ca.pem")).headers


def record(signer: CertificateAuthority, *serials: str, age: float) -> AgentRecord:
    """An agent that renewed its certificate so many seconds before NOW_UTC."""
    signed = signer.sign_agent(csr().encode(), "c-1", now=NOW_UTC)
    moved = NOW_UTC - timedelta(seconds=age)
    return AgentRecord(
        serials[0], "c-1", "dev-1", serials[-1], serials, moved, moved, signed.not_after,
        None, "", signed.certificate_pem.decode(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("serials", "age", "moves"),
    [(("a", "b"), 5.0, True), (("a", "b"), 31.0, False), (("a",), 5.0, False)],
)
def test_an_agent_that_has_just_moved_may_have_old_tunnels_to_other_replicas(
    serials: tuple[str, ...], age: float, moves: bool
) -> None:
    signer = CertificateAuthority.create("agent")
    agent = record(signer, *serials, age=age)
    assert bool(ca._reason(agent, signer.key_id, set(), NOW_UTC)) is moves
