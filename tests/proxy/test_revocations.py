"""Ended tokens and logins: none is forgotten before its time, and none much later."""

from mk8s_proxy.identity.revocations import Revocations


def test_an_id_is_refused_until_its_end() -> None:
    revocations = Revocations()
    assert revocations.add("login", 1000.0), "it is news"
    assert revocations.end_of("login") == 1000.0
    assert revocations.end_of("other") is None
    assert not revocations.add("login", 900.0)
    assert not revocations.add("login", 1000.0)
    revocations.forget(1000.0)
    assert revocations.end_of("login") == 1000.0, "its minute is not over"
    revocations.forget(1060.0)
    assert revocations.end_of("login") is None
    assert len(revocations) == 0


def test_attack_flood_of_logouts_forgets_none() -> None:
    revocations = Revocations()
    for number in range(100_000):
        revocations.add(f"login-{number}", 900.0)
        revocations.forget(1.0)
    assert all(revocations.end_of(f"login-{number}") for number in range(100_000))


def test_the_later_end_counts() -> None:
    revocations = Revocations()
    for end in (100.0, 1000.0, 1001.0, 200.0):
        revocations.add("login", end)
    assert revocations.end_of("login") == 1001.0
    revocations.forget(300.0)
    assert revocations.end_of("login") == 1001.0
    revocations.forget(1100.0)
    assert revocations.end_of("login") is None


def test_a_second_forgets_a_bounded_number() -> None:
    revocations = Revocations()
    for number in range(5000):
        revocations.add(f"login-{number}", 30.0)
    left = []
    while len(revocations):
        revocations.forget(1000.0)
        left.append(len(revocations))
    assert left == [2952, 904, 0]
    revocations.forget(1000.0)
    revocations.add("login", 30.0)
    revocations.forget(1000.0)
    assert len(revocations) == 0
