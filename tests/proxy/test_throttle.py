"""The delay after failures: it grows, it ends, it is bounded, and no name can be locked out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.identity.throttle import (
    PER_ACCOUNT,
    PER_PAIR,
    PER_SOURCE,
    DelayRule,
    LoginThrottle,
    Tell,
    Throttle,
    Throttled,
    source_key,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_delay_doubles_up_to_its_bound(clock: Clock) -> None:
    throttle = Throttle(DelayRule("test", free=2, longest=10.0), clock)
    waits = []
    for _ in range(8):
        waits.append(throttle.wait("key"))
        clock.now += waits[-1]
        throttle.count("key")
    assert waits == [0, 0, 1, 2, 4, 8, 10, 10]


def test_the_delay_passes(clock: Clock) -> None:
    throttle = Throttle(DelayRule("test", free=1, longest=10.0), clock)
    throttle.count("key")
    assert throttle.wait("key") == 1.0
    clock.now += 0.75
    assert throttle.wait("key") == 0.25
    clock.now += 0.25
    assert throttle.wait("key") == 0.0


def test_other_keys_do_not_wait(clock: Clock) -> None:
    throttle = Throttle(DelayRule("test", free=1, longest=10.0), clock)
    throttle.count("key")
    assert throttle.wait("other") == 0.0


def test_a_quiet_key_is_forgotten(clock: Clock) -> None:
    throttle = Throttle(DelayRule("test", free=1, longest=2000.0, forget=900.0), clock)
    for _ in range(20):
        throttle.count("key")
    clock.now += 899
    assert throttle.wait("key") > 0
    clock.now += 1
    assert throttle.wait("key") == 0.0
    throttle.count("key")
    assert throttle.wait("key") == 1.0, "it starts again"


def test_a_flood_of_names_does_not_grow_memory(clock: Clock) -> None:
    throttle = Throttle(DelayRule("test", free=1, longest=10.0, capacity=5), clock)
    for number in range(50):
        throttle.count(f"name {number}")
    assert len(throttle) == 5
    assert throttle.wait("name 49") > 0


def test_refunds_end_at_nothing(clock: Clock) -> None:
    throttle = Throttle(DelayRule("test", free=1, longest=10.0), clock)
    throttle.refund("key")
    throttle.count("key")
    throttle.count("key")
    throttle.refund("key")
    assert throttle.wait("key") == 1.0
    throttle.refund("key")
    assert len(throttle) == 0


@given(st.integers(min_value=0, max_value=5000))
def test_no_count_overflows(count: int) -> None:
    clock = Clock()
    throttle = Throttle(DelayRule("test", free=0, longest=300.0), clock)
    throttle._attempts["key"] = (count, clock.now)
    assert 0 <= throttle.wait("key") <= 300.0


def admitted(throttle: LoginThrottle, account: str, source: str) -> bool:
    try:
        throttle.admit(account, source)
    except Throttled:
        return False
    return True


def test_a_thousand_guesses_at_once_are_not_a_thousand_evaluations(clock: Clock) -> None:
    throttle = LoginThrottle(clock)
    tries = [admitted(throttle, "dev@example.com", "192.0.2.1") for _ in range(1000)]
    assert sum(tries) == PER_PAIR.free


def test_a_thousand_guesses_spread_over_two_workers_are_no_more(clock: Clock) -> None:
    workers: list[LoginThrottle] = []

    def tell(teller: int) -> Tell:
        def others(rule: str, event: str, key: str) -> None:
            for throttle in workers[1 - teller].throttles:
                if throttle.name == rule:
                    throttle.note(event, key)

        return others

    workers += [LoginThrottle(clock, tell(0)), LoginThrottle(clock, tell(1))]
    tries = [admitted(workers[i % 2], "dev@example.com", "192.0.2.1") for i in range(1000)]
    assert sum(tries) == PER_PAIR.free
    workers[0].succeeded("dev@example.com", "192.0.2.1")
    assert admitted(workers[1], "dev@example.com", "192.0.2.1")
    workers[1].withdrawn("dev@example.com", "192.0.2.1")
    assert all(len(it) <= 1 for worker in workers for it in worker.throttles)


def test_credential_stuffing_from_one_source(clock: Clock) -> None:
    throttle = LoginThrottle(clock)
    tries = [admitted(throttle, f"user{i}@example.com", "192.0.2.1") for i in range(1000)]
    assert sum(tries) == PER_SOURCE.free


def test_guessing_one_account_from_a_thousand_sources(clock: Clock) -> None:
    throttle = LoginThrottle(clock)
    tries = [
        admitted(throttle, "dev@example.com", f"192.0.{i // 250}.{i % 250}") for i in range(1000)
    ]
    assert sum(tries) == PER_ACCOUNT.free


def test_nobody_is_locked_out_by_name_alone(clock: Clock) -> None:
    throttle = LoginThrottle(clock)
    for number in range(1000):
        admitted(throttle, "victim@example.com", f"192.0.{number // 250}.{number % 250}")
        clock.now += 0.01
    with pytest.raises(Throttled) as caught:
        throttle.admit("victim@example.com", "198.51.100.7")
    assert caught.value.retry_after <= PER_ACCOUNT.longest
    clock.now += PER_ACCOUNT.longest
    assert admitted(throttle, "victim@example.com", "198.51.100.7")


def test_a_success_forgives_the_account(clock: Clock) -> None:
    throttle = LoginThrottle(clock)
    for _ in range(PER_PAIR.free):
        assert admitted(throttle, "dev@example.com", "192.0.2.1")
    throttle.succeeded("DEV@example.com", "192.0.2.1")
    assert admitted(throttle, "dev@example.com", "192.0.2.1")


def test_own_logins_do_not_clear_the_address_for_guesses_at_others(clock: Clock) -> None:
    throttle = LoginThrottle(clock)
    guesses = 0
    for number in range(200):
        if admitted(throttle, "mallory@example.com", "192.0.2.1"):
            throttle.succeeded("mallory@example.com", "192.0.2.1")
        guesses += admitted(throttle, f"victim{number}@example.com", "192.0.2.1")
    assert guesses == PER_SOURCE.free


def test_spellings_of_one_account_are_one_account(clock: Clock) -> None:
    throttle = LoginThrottle(clock)
    names = ["dev@example.com", "DEV@example.com", "Dev@Example.Com"] * 5
    assert sum(admitted(throttle, name, "192.0.2.1") for name in names) == PER_PAIR.free


def test_sources() -> None:
    assert source_key("192.0.2.1") == "192.0.2.1"
    assert source_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert source_key("2001:db8:1:2:3:4:5:6") == source_key("2001:db8:1:2::9") == "2001:db8:1:2::"
    assert source_key("2001:db8:1:3::9") != source_key("2001:db8:1:2::9")
    assert source_key("") == source_key("no address") == source_key("1.2.3.4\r\nx") == "unknown"
