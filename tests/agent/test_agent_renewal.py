"""The identity in use: what may replace it, and what may not."""

import pytest

from mk8s_agent.identity.renewal import IdentityKeeper
from mk8s_agent.identity.store import AgentIdentity
from tests.agent.pki_for_tests import Clock, Issuer
from tests.support.logged import logged

START = 1_800_000_000.0
LIFE = 86_400.0
DUE = START + LIFE * 0.7


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


class Keeping:
    def __init__(self, issuer: Issuer) -> None:
        self.clock = Clock(DUE)
        self.changes: list[AgentIdentity] = []
        self.first = issuer.identity("c1", START, START + LIFE)
        self.keeper = IdentityKeeper(self.first, self.changes.append, self.clock)


@pytest.fixture
def keeping(issuer: Issuer) -> Keeping:
    return Keeping(issuer)


def test_a_fitting_certificate_is_taken_up(keeping: Keeping, issuer: Issuer) -> None:
    csr = keeping.keeper.ask("me").csr.encode()
    certificate = issuer.sign(csr, "c1", DUE, DUE + LIFE)
    assert keeping.keeper.complete("me", certificate)
    assert keeping.changes == [keeping.keeper.current]
    assert keeping.keeper.current.not_after == DUE + LIFE
    assert not keeping.keeper.renewal_due()


def test_each_request_has_a_fresh_key(keeping: Keeping) -> None:
    assert keeping.keeper.ask("me").csr != keeping.keeper.ask("me").csr


def test_certificate_of_another_cluster_is_refused(
    keeping: Keeping, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    csr = keeping.keeper.ask("me").csr.encode()
    assert not keeping.keeper.complete("me", issuer.sign(csr, "c2", DUE, DUE + LIFE))
    assert keeping.keeper.current is keeping.first
    assert "certificate of another cluster" in logged(caplog)


def test_certificate_for_another_key_is_refused(keeping: Keeping, issuer: Issuer) -> None:
    stale = keeping.keeper.ask("me").csr.encode()
    keeping.keeper.ask("me")
    assert not keeping.keeper.complete("me", issuer.sign(stale, "c1", DUE, DUE + LIFE))
    assert keeping.keeper.current is keeping.first


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nx"])
def test_what_is_no_certificate_is_refused(keeping: Keeping, content: bytes) -> None:
    keeping.keeper.ask("me")
    assert not keeping.keeper.complete("me", content)
    assert keeping.keeper.current is keeping.first


def test_certificate_that_has_ended_is_refused(
    keeping: Keeping, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    csr = keeping.keeper.ask("me").csr.encode()
    assert not keeping.keeper.complete("me", issuer.sign(csr, "c1", START, DUE - 1))
    assert "check both clocks" in logged(caplog)


def test_certificate_that_nobody_asked_for(keeping: Keeping, issuer: Issuer) -> None:
    csr = keeping.keeper.ask("me").csr.encode()
    assert not keeping.keeper.complete("you", issuer.sign(csr, "c1", DUE, DUE + LIFE))
    keeping.keeper.give_up("you", "not yours")
    assert not keeping.keeper.renewal_due()


def test_an_answer_that_never_comes_is_not_waited_for(keeping: Keeping) -> None:
    keeping.keeper.ask("me")
    keeping.clock.now += 60
    assert not keeping.keeper.renewal_due()
    keeping.clock.now += 1
    assert keeping.keeper.renewal_due()
