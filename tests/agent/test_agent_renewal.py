"""The identity in use: what may replace it, and what may not."""

import dataclasses

import pytest
from cryptography import x509

from mk8s_agent.identity.renewal import IdentityKeeper
from mk8s_agent.identity.store import (
    AgentIdentity,
    IdentityError,
    decode_identity,
    encode_identity,
)
from mk8s_agent.wire import pki
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
        self.prepared: list[AgentIdentity] = []
        self.keeper = IdentityKeeper(
            self.first, self.changes.append, self.clock, self.prepared.append
        )


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


def key_of(csr: str) -> object:
    return x509.load_pem_x509_csr(csr.encode()).public_key()


def test_a_lost_answer_is_asked_for_again_with_the_same_key(keeping: Keeping) -> None:
    """Central takes another key for that of a thief."""
    first = key_of(keeping.keeper.ask("me").csr)
    keeping.keeper.give_up("me", "the tunnel is gone")
    assert key_of(keeping.keeper.ask("you").csr) == first


def test_each_certificate_has_a_fresh_key(keeping: Keeping, issuer: Issuer) -> None:
    first = keeping.keeper.ask("me").csr
    assert keeping.keeper.complete("me", issuer.sign(first.encode(), "c1", DUE, DUE + LIFE))
    assert key_of(keeping.keeper.ask("me").csr) != key_of(first)


def test_a_key_is_stored_before_central_sees_it(keeping: Keeping) -> None:
    assert not keeping.keeper.renewal_due()
    [prepared] = keeping.prepared
    assert prepared.next_key_pem
    assert not keeping.keeper.renewal_due()
    keeping.keeper.stored(prepared)
    assert keeping.keeper.renewal_due()
    assert len(keeping.prepared) == 1


def test_an_agent_that_can_store_nothing_renews_after_a_while(keeping: Keeping) -> None:
    assert not keeping.keeper.renewal_due()
    keeping.clock.now += 60
    assert keeping.keeper.renewal_due()


def test_after_a_crash_the_same_key_is_asked_for(keeping: Keeping) -> None:
    assert not keeping.keeper.renewal_due()
    [prepared] = keeping.prepared
    csr = keeping.keeper.ask("me").csr
    kept = decode_identity(encode_identity(prepared), "here")
    again = IdentityKeeper(kept, keeping.changes.append, keeping.clock)
    assert again.renewal_due()
    assert key_of(again.ask("me").csr) == key_of(csr)


def test_two_pods_of_a_rolling_update_ask_with_one_key(keeping: Keeping, issuer: Issuer) -> None:
    other = IdentityKeeper(keeping.first, keeping.changes.append, keeping.clock)
    assert not keeping.keeper.renewal_due()
    assert not other.renewal_due()
    other.adopt(keeping.keeper.current)
    csr = other.ask("me").csr
    assert key_of(csr) == key_of(keeping.keeper.ask("me").csr)
    assert other.complete("me", issuer.sign(csr.encode(), "c1", DUE, DUE + LIFE))
    keeping.keeper.adopt(other.current)
    assert keeping.keeper.current is other.current
    assert not keeping.keeper.renewal_due()


def test_what_is_stored_of_another_cluster_is_not_adopted(keeping: Keeping, issuer: Issuer) -> None:
    keeping.keeper.adopt(issuer.identity("c2", DUE, DUE + LIFE))
    assert keeping.keeper.current.certificate_pem == keeping.first.certificate_pem


def test_a_damaged_next_key_is_refused(keeping: Keeping) -> None:
    damaged = dataclasses.replace(keeping.first, next_key_pem=b"nothing")
    with pytest.raises(IdentityError, match="damaged"):
        decode_identity(encode_identity(damaged), "here")


def test_certificate_of_another_cluster_is_refused(
    keeping: Keeping, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    csr = keeping.keeper.ask("me").csr.encode()
    assert not keeping.keeper.complete("me", issuer.sign(csr, "c2", DUE, DUE + LIFE))
    assert keeping.keeper.current.certificate_pem == keeping.first.certificate_pem
    assert "certificate of another cluster" in logged(caplog)


def test_certificate_for_another_key_is_refused(keeping: Keeping, issuer: Issuer) -> None:
    stale = pki.csr(pki.new_key(), "c1")
    keeping.keeper.ask("me")
    assert not keeping.keeper.complete("me", issuer.sign(stale, "c1", DUE, DUE + LIFE))
    assert keeping.keeper.current.certificate_pem == keeping.first.certificate_pem


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nx"])
def test_what_is_no_certificate_is_refused(keeping: Keeping, content: bytes) -> None:
    keeping.keeper.ask("me")
    assert not keeping.keeper.complete("me", content)
    assert keeping.keeper.current.certificate_pem == keeping.first.certificate_pem


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


# -- another authority of central


def another() -> bytes:
    return Issuer().identity("c1", START, START + LIFE).authority_pem


def told(keeping: Keeping, authorities: bytes, seconds: float = 0.0) -> None:
    keeping.keeper.trust(authorities, seconds)


def test_a_further_authority_is_trusted_and_kept_before_it_is_told(keeping: Keeping) -> None:
    keeping.clock.now = START + 1.0
    both = keeping.first.authority_pem + another()
    told(keeping, both)
    assert keeping.keeper.current.authority_pem == both
    assert keeping.prepared == [keeping.keeper.current]
    assert keeping.changes == [], "tunnels that are open stay open"
    assert not keeping.keeper.renewal_due()
    told(keeping, both)
    assert len(keeping.prepared) == 1, "no news"
    assert keeping.keeper.ask("me").trusts == pki.spki_pins(both)


def test_a_certificate_of_a_leaving_authority_is_renewed_early_and_once(
    keeping: Keeping, issuer: Issuer
) -> None:
    keeping.clock.now = START + 1.0
    both = keeping.first.authority_pem + another()
    told(keeping, both, 100.0)
    told(keeping, both, 100.0)  # by another tunnel
    keeping.clock.now += 101.0
    assert not keeping.keeper.renewal_due(), "what it has learned is not stored yet"
    keeping.keeper.stored(keeping.keeper.current)
    assert keeping.keeper.renewal_due()
    now = keeping.clock.now
    answer = issuer.sign(keeping.keeper.ask("me").csr.encode(), "c1", now, now + LIFE)
    assert keeping.keeper.complete("me", answer)
    assert keeping.keeper.current.authority_pem == both
    keeping.clock.now += 1.0
    assert not keeping.keeper.renewal_due()


def test_an_authority_that_is_told_no_more_is_dropped(keeping: Keeping) -> None:
    old, new = keeping.first.authority_pem, another()
    told(keeping, old + new)
    told(keeping, new)
    assert keeping.keeper.current.authority_pem == new


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----",
        another() * (pki.MAX_AUTHORITIES + 1),
    ],
    ids=["damaged", "none", "too many"],
)
def test_attack_what_is_no_authority_changes_nothing(
    keeping: Keeping, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    told(keeping, content, 100.0)
    assert keeping.keeper.current == keeping.first
    assert keeping.prepared == []
    assert "identity.trust_refused" in logged(caplog)
