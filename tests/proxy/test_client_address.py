"""Who the client is behind our own proxies, and what nobody is believed."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.listener.client_address import client_address
from mk8s_proxy.settings.model import Settings, SettingsError
from mk8s_proxy.settings.networks import contains, parse_ip, parse_networks
from tests.support.front_door import PODS, Central

PREFIX = b"/k8s/prod" + PODS

OURS = parse_networks("10.0.0.0/8, fd00::/8")


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"", "10.0.0.1"),
        (b"192.0.2.7", "192.0.2.7"),
        (b"203.0.113.1, 192.0.2.7", "192.0.2.7"),  # the first is what the client wrote itself
        (b"203.0.113.1, 192.0.2.7, 10.9.9.9", "192.0.2.7"),
        (b"10.1.1.1, 10.2.2.2", "10.1.1.1"),  # a client within
        (b"192.0.2.7:4711", "192.0.2.7"),
        (b"[2001:db8::7]:4711, fd00::1", "2001:db8::7"),
        (b"2001:db8::7", "2001:db8::7"),
        (b"::ffff:192.0.2.7", "192.0.2.7"),
        (b"192.0.2.7, unknown", "10.0.0.1"),
        (b"192.0.2.7, unknown, 10.3.3.3", "10.3.3.3"),
        (b"192.0.2.7,", "10.0.0.1"),
        (b"[", "10.0.0.1"),
        (b"\xff\xfe", "10.0.0.1"),
        (b"203.0.113.1, " + b"10.0.0.2, " * 15 + b"10.0.0.3", "10.0.0.2"),
    ],
)
def test_the_rightmost_hop_that_is_not_ours(header: bytes, client: str) -> None:
    assert client_address(OURS, "10.0.0.1", header) == client


@given(st.binary(max_size=200))
def test_whatever_is_in_the_header_the_result_is_an_address(header: bytes) -> None:
    assert parse_ip(client_address(OURS, "10.0.0.1", header)) is not None


def test_networks() -> None:
    assert parse_networks("") == ()
    assert contains(OURS, parse_ip("10.1.2.3"))
    assert contains(OURS, parse_ip("::ffff:10.1.2.3"))
    assert contains(OURS, parse_ip("fd00::1"))
    assert not contains(OURS, parse_ip("11.0.0.1"))
    assert not contains(OURS, parse_ip("no address"))
    assert contains(parse_networks("192.0.2.7"), parse_ip("192.0.2.7"))


@pytest.mark.parametrize("name", ["listen_proxy_protocol_from", "trusted_proxies"])
@pytest.mark.parametrize("text", ["balancer", "10.0.0.1/8", "10.0.0.0/8 10.1.0.0/16"])
def test_networks_that_are_none(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: .* is no network"):
        Settings(**{name: text})


@pytest.mark.parametrize("trusted", ["192.0.2.0/24", "10.0.0.0/8"])
def test_attack_a_client_that_claims_an_address_is_not_believed(
    tmp_path: Path, trusted: str
) -> None:
    """The peers are in 192.0.2.0/24: once proxies of ours, once clients that say the same."""
    central = Central(tmp_path)
    networks = parse_networks(trusted)
    central.config = dataclasses.replace(central.config, trusted_proxies=networks)
    agent, person = central.agent(), central.http2()
    claim = (b"x-forwarded-for", b"203.0.113.1, 198.51.100.9")
    person.ask(PREFIX, claim)
    assert b"x-forwarded-for" not in agent.request()[1]
    person.ask(PREFIX, claim, token=b"bad")
    person.ask(PREFIX, claim, token=b"bad")
    person.ask(PREFIX, claim, (b"x-mk8s-user", b"root"))
    lines = (b"X-Forwarded-For: 203.0.113.1", b"X-Forwarded-For: 198.51.100.9")
    central.http1().ask(PREFIX, *lines, token=b"bad")
    seen = [row["sourceIPs"] for row in central.rows()]
    own = [["192.0.2.7"]] * 4 + [["192.0.2.8"]]
    assert seen == (own if trusted == "10.0.0.0/8" else [["198.51.100.9"]] * 5)
