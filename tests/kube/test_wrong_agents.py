"""Agents that must not get in, or must stay what they are: tokens, identities, clocks, files.

Each ends, or is kept out, with one line that says what to do; a join that reached central has its
row; whoever else is there goes on undisturbed.
"""

import http.client
import json
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mk8s_agent.identity.store import IDENTITY_FILE
from mk8s_agent.wire import pki
from tests.support.minting import expired_join_token
from tests.support.processes import Program, with_clock
from tests.support.wire import authority_of, send, token_of
from tests.support.world import Joining, World, wait_until

pytestmark = [pytest.mark.kube, pytest.mark.usefixtures("undisturbed")]

NAMESPACE = "/api/v1/namespaces/default"
TEN_MINUTES = 600.0


def ended(agent: Program) -> str:
    """The last line of an agent that gave up, after it ended with a failure."""
    assert agent.wait(seconds=60) == 1, agent.output
    assert "Traceback" not in agent.output
    return agent.output.strip().splitlines()[-1]


def joins(world: World, cluster: str) -> list[tuple[int, str]]:
    """Code and reason of each try to join a cluster, by the journal."""
    rows = [row for row in world.audit(objectRef__name=cluster) if row["requestURI"] == "/join"]
    return [
        (row["responseStatus"]["code"], row["annotations"].get("mk8s.io/refusal", ""))
        for row in rows
        if row["stage"] == "ResponseComplete"
    ]


@pytest.fixture
def joining(world: World) -> Joining:
    """A cluster of the test's own, with a fresh join token."""
    return world.join_command(world.fresh_name("wrong"))


def send_as_admin(world: World, cluster: str) -> int:
    """The status code of a request to a cluster."""
    token = token_of(world.people["admin"], world, cluster)
    return send(world, f"/k8s/{cluster}{NAMESPACE}", token=token).code


def joined(world: World, joining: Joining) -> None:
    """Let an agent join and end: its identity stays."""
    with world.agent(joining, world.clusters["staging"]) as agent:
        agent.wait_for_line("agent.joined")


def test_expired_join_token(world: World, joining: Joining) -> None:
    late = Joining(joining.cluster, expired_join_token(world, joining.cluster), joining.ca_pin)
    with world.agent(late, world.clusters["staging"]) as agent:
        line = ended(agent)
    assert "expired" in line
    assert f"mk8s admin clusters join-token {joining.cluster}" in line
    assert late.join_token not in line
    assert joins(world, joining.cluster) == [(403, "JOIN_TOKEN_EXPIRED")]
    assert not (world.agent_data(joining.cluster) / IDENTITY_FILE).exists()


def test_used_join_token(world: World, joining: Joining) -> None:
    with world.agent(joining, world.clusters["staging"]) as first:
        first.wait_for_line("agent.joined")
        with world.agent(joining, world.clusters["staging"], name=f"{joining.cluster}-2") as second:
            line = ended(second)
        assert first.running
    assert "used" in line
    assert f"mk8s admin clusters join-token {joining.cluster}" in line
    assert joins(world, joining.cluster) == [(200, ""), (403, "JOIN_TOKEN_USED")]


def test_join_token_of_another_cluster(world: World, joining: Joining) -> None:
    stolen = Joining("prod", joining.join_token, joining.ca_pin)
    before = len(joins(world, "prod"))
    with world.agent(stolen, world.clusters["staging"], name=joining.cluster) as thief:
        assert "another cluster" in ended(thief)
    assert joins(world, "prod")[before:] == [(403, "JOIN_TOKEN_FOREIGN")]
    # It is spent: a token that was tried elsewhere is in wrong hands.
    with world.agent(joining, world.clusters["staging"]) as owner:
        assert "used" in ended(owner)


def test_join_token_that_nobody_issued(world: World) -> None:
    cluster = world.fresh_name("invented")
    made_up = Joining(cluster, "mk8s_jt_" + "x" * 43, world.pin)
    with world.agent(made_up, world.clusters["staging"]) as agent:
        assert "not known" in ended(agent)
    assert joins(world, cluster) == [(403, "JOIN_TOKEN_UNKNOWN")]


def test_racing_joins_with_one_token(world: World, joining: Joining) -> None:
    """Both agents, then ten requests at once: of each race one gets in."""
    names = [f"{joining.cluster}-{number}" for number in "ab"]
    with (
        world.agent(joining, world.clusters["staging"], name=names[0]) as one,
        world.agent(joining, world.clusters["staging"], name=names[1]) as other,
    ):
        wait_until(lambda: not (one.running and other.running), 60, world.output)
        winner, loser = (one, other) if one.running else (other, one)
        assert "used" in ended(loser)
        winner.wait_for_line("agent.joined")
        wait_until(lambda: send_as_admin(world, joining.cluster) == 200, 30, world.output)
    assert sorted(joins(world, joining.cluster)) == [(200, ""), (403, "JOIN_TOKEN_USED")]


def test_ten_requests_to_join_at_the_same_moment(world: World, joining: Joining) -> None:
    requests = [json.dumps(_join_body(joining)) for _ in range(10)]
    with ThreadPoolExecutor(len(requests)) as pool:
        codes = list(pool.map(lambda body: _post_join(world, body), requests))
    assert sorted(codes) == [200] + [403] * 9
    rows = joins(world, joining.cluster)
    assert sorted(rows) == [(200, "")] + [(403, "JOIN_TOKEN_USED")] * 9


def _join_body(joining: Joining) -> dict[str, str]:
    csr = pki.csr(pki.new_key(), joining.cluster).decode()
    return {"token": joining.join_token, "cluster": joining.cluster, "csr": csr}


def _post_join(world: World, body: str) -> int:
    """From an address of its own: joins that fail are slowed down by their source."""
    tls = ssl.create_default_context(cadata=authority_of(world.people["admin"]))
    connection = http.client.HTTPSConnection(
        "localhost", world.port, context=tls, timeout=30, source_address=("127.0.0.9", 0)
    )
    try:
        connection.request("POST", "/join", body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_data_dir_with_the_identity_of_another_cluster(world: World, joining: Joining) -> None:
    joined(world, joining)
    other = world.join_command(world.fresh_name("other"))
    with world.agent(other, world.clusters["staging"], name=joining.cluster) as agent:
        line = ended(agent)
    for fact in (joining.cluster, other.cluster, IDENTITY_FILE, "--data-dir"):
        assert fact in line
    assert joins(world, other.cluster) == [], "the new token is not spent"


def test_certificate_of_one_cluster_configured_for_another(world: World, joining: Joining) -> None:
    """Who dials is whom the certificate names: the other cluster stays without an agent."""
    joined(world, joining)
    other = world.join_command(world.fresh_name("other"))
    stolen = json.loads((world.agent_data(joining.cluster) / IDENTITY_FILE).read_bytes())
    path = world.agent_data(other.cluster) / IDENTITY_FILE
    pki.write_private(path, json.dumps(stolen | {"cluster": other.cluster}).encode())
    with world.agent(other, world.clusters["staging"]):
        wait_until(lambda: send_as_admin(world, joining.cluster) == 200, 30, world.output)
        token = token_of(world.people["admin"], world, other.cluster)
        answer = send(world, f"/k8s/{other.cluster}{NAMESPACE}", token=token)
    assert answer.code == 503
    assert answer.status["reason"] == "ServiceUnavailable"
    assert int(answer.headers["retry-after"]) >= 1
    (row,) = world.audit(requestURI=f"/k8s/{other.cluster}{NAMESPACE}")
    assert row["responseStatus"]["code"] == 503
    assert row["annotations"]["mk8s.io/cluster"] == other.cluster
    assert joins(world, other.cluster) == []


@pytest.mark.parametrize("ahead", [TEN_MINUTES, -TEN_MINUTES])
def test_clock_ten_minutes_off_at_the_join(world: World, joining: Joining, ahead: float) -> None:
    program = with_clock("mk8s_agent", ahead=ahead)
    with world.agent(joining, world.clusters["staging"], program=program) as agent:
        line = ended(agent)
    assert "clock" in line
    assert "ahead of" in line if ahead > 0 else "behind" in line
    assert joins(world, joining.cluster) == [], "the token is not spent"
    joined(world, joining)


def test_clock_that_went_ahead_keeps_the_agent_out(world: World, joining: Joining) -> None:
    joined(world, joining)
    program = with_clock("mk8s_agent", ahead=TEN_MINUTES)
    with world.agent(joining, world.clusters["staging"], program=program) as agent:
        line = agent.wait_for_line("clocks of agent and central differ by 6[0-9][0-9] s")
        assert "set them right" in line.string
        assert agent.running, "it tries again: somebody may set the clock"
        assert send_as_admin(world, joining.cluster) == 503
    with world.agent(joining, world.clusters["staging"]):
        wait_until(lambda: send_as_admin(world, joining.cluster) == 200, 30, world.output)


def test_clock_that_went_back_before_the_certificate(world: World, joining: Joining) -> None:
    joined(world, joining)
    program = with_clock("mk8s_agent", ahead=-TEN_MINUTES)
    with world.agent(joining, world.clusters["staging"], program=program) as agent:
        line = ended(agent)
    assert "not valid for another" in line
    assert "clock" in line
    assert time.strftime("%Y-", time.gmtime()) in line


def test_agent_given_another_centrals_pin(world: World, joining: Joining) -> None:
    wrong = Joining(joining.cluster, joining.join_token, "sha256:" + "0" * 64)
    with world.agent(wrong, world.clusters["staging"]) as agent:
        line = ended(agent)
    assert "CA_PIN" in line
    assert world.pin in line
    assert joins(world, joining.cluster) == [], "the token was not shown"


KUBECONFIGS = {
    "empty": "",
    "broken": "clusters: [",
    "without-context": "kind: Config\n",
    "text": "just text",
    "list": "[1, 2]",
    "binary": "\x00\x01\x02",
    "unknown-context": "kind: Config\ncurrent-context: absent\ncontexts: []\n",
}


@pytest.mark.parametrize("content", KUBECONFIGS.values(), ids=KUBECONFIGS.keys())
def test_agent_with_a_malformed_kubeconfig(world: World, tmp_path: Path, content: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(content)
    joining = Joining("prod", "mk8s_jt_" + "x" * 43, world.pin)
    with world.agent(joining, kubeconfig, name=world.fresh_name("malformed")) as agent:
        line = ended(agent)
    assert str(kubeconfig) in line or "kubeconfig" in line


def test_agent_with_a_kubeconfig_that_is_not_there(world: World, tmp_path: Path) -> None:
    joining = Joining("prod", "mk8s_jt_" + "x" * 43, world.pin)
    name = world.fresh_name("absent")
    with world.agent(joining, tmp_path / "absent", name=name) as agent:
        assert str(tmp_path / "absent") in ended(agent)
