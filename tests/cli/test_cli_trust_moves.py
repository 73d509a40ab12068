"""Another authority follows the pinned one: the CLI and the kubeconfig move to it by themselves."""

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
import yaml

from mk8s_cli.central import certificate, trust
from mk8s_cli.login import config, token_cache, trusted
from tests.cli.conftest import Result, Run
from tests.cli.fake_central import FakeCentral

NEXT = trustme.CA()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def offered(central: FakeCentral, *authorities: str) -> str:
    """Central says that it is to be verified by these."""
    text = "".join(authorities)
    central.published = text
    central.headers["X-Mk8s-Trust"] = digest(text)
    return text


def pinned(central: FakeCentral) -> str:
    profile = config.load().profile(central.url)
    assert profile is not None
    return profile.certificate_authority


def in_kubeconfig(home: Path) -> set[str]:
    document = yaml.safe_load((home / ".kube" / "config").read_text())
    return {
        base64.b64decode(entry["cluster"]["certificate-authority-data"]).decode()
        for entry in document["clusters"]
    }


def next_pem() -> str:
    return "".join(certificate.split_pem(NEXT.cert_pem.bytes().decode()))


@pytest.fixture(autouse=True)
def _nothing_moved_yet() -> None:
    trusted.moved.clear()


def test_the_next_authority_is_pinned_beside_the_present_one(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    before = pinned(central)
    both = offered(central, before, next_pem())
    token_cache.clear(central.url)
    result = run("get-token", "--cluster", "prod")
    assert json.loads(result.out)["kind"] == "ExecCredential"
    assert result.err == ""
    assert pinned(central) == both
    assert in_kubeconfig(home) == {both}
    calls = central.count("GET", "/ca.pem")
    token_cache.clear(central.url)
    assert run("get-token", "--cluster", "prod").code == 0
    assert central.count("GET", "/ca.pem") == calls, "it is asked for once"


def test_the_former_authority_is_dropped_with_the_next_token(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    only = pinned(central)
    config.update(lambda it: config_with(it, central, only + next_pem()))
    offered(central, only)
    token_cache.clear(central.url)
    assert run("clusters", "list").code == 0
    assert pinned(central) == only


def config_with(stored: config.Config, central: FakeCentral, authority: str) -> config.Config:
    profile = stored.profile(central.url)
    assert profile is not None
    return stored.with_profile(replace(profile, certificate_authority=authority))


def test_attack_an_authority_that_does_not_verify_central_is_not_pinned(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    before, written = pinned(central), (home / ".kube" / "config").read_bytes()
    offered(central, next_pem())
    token_cache.clear(central.url)
    assert run("get-token", "--cluster", "prod").code == 0
    assert pinned(central) == before
    assert (home / ".kube" / "config").read_bytes() == written


@pytest.mark.parametrize("content", ["nonsense", ""])
def test_attack_what_is_no_certificate_is_not_pinned(
    run: Run, logged_in: Result, central: FakeCentral, content: str
) -> None:
    before = pinned(central)
    offered(central, content)
    token_cache.clear(central.url)
    assert run("get-token", "--cluster", "prod").code == 0
    assert pinned(central) == before


def test_a_kubeconfig_that_cannot_be_written_costs_no_token_and_is_tried_again(
    run: Run, logged_in: Result, central: FakeCentral, home: Path
) -> None:
    before = pinned(central)
    both = offered(central, before, next_pem())
    token_cache.clear(central.url)
    kept = (home / ".kube" / "config").read_text()
    (home / ".kube" / "config").write_text("{")
    assert run("get-token", "--cluster", "prod").code == 0
    assert pinned(central) == before
    (home / ".kube" / "config").write_text(kept)
    token_cache.clear(central.url)
    assert run("get-token", "--cluster", "prod").code == 0
    assert pinned(central) == both


def test_who_trusts_the_machines_authorities_pins_nothing(
    run: Run, logged_in: Result, central: FakeCentral
) -> None:
    class Told:
        trust_told = "x"

    trusted.follow(config.Profile(central.url), Told())  # type: ignore[arg-type]
    assert trusted.moved == {}


def test_a_central_that_was_forgotten_meanwhile_stays_forgotten(
    run: Run, logged_in: Result, central: FakeCentral
) -> None:
    before = config.load()
    trusted.moved["https://gone.example.com"] = next_pem()
    trusted.keep()
    assert config.load() == before
    assert trusted.moved == {}


def test_of_two_authorities_the_one_in_use_is_shown_to_the_person(
    run: Run, central: FakeCentral, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered(central, next_pem(), "".join(certificate.split_pem(central.authority_pem)))
    pin, authority = trust._in_use(central.url)
    assert authority == "".join(certificate.split_pem(central.authority_pem))
    assert pin == certificate.pin(authority)
    offered(central, next_pem())
    with pytest.raises(Exception, match="has signed its certificate"):
        trust._in_use(central.url)
