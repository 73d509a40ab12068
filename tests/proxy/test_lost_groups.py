"""Groups that logins have lost, while older tokens name them."""

from mk8s_proxy.identity.identity import Identity
from mk8s_proxy.identity.lost_groups import LostGroups, is_lost_group, lost_ids

NOW = 1_800_000_000.0


def person(login: str, expires: float) -> Identity:
    groups = ("mk8s:users", "acme:devs", "acme:ops")
    return Identity("ann@example.com", "u", groups, expires, "", "t", 1, login, NOW + 90_000)


def test_an_older_token_has_the_group_no_more_and_a_newer_one_has_it() -> None:
    lost = LostGroups()
    [ended] = lost_ids(["login-1"], ["acme:devs"])
    assert is_lost_group(ended)
    assert not is_lost_group("login-1")
    lost.add(ended, NOW + 930)
    assert lost.without(person("login-1", NOW + 900)).groups == ("mk8s:users", "acme:ops")
    newer, others = person("login-1", NOW + 931), person("login-2", NOW + 900)
    assert lost.without(newer) is newer
    assert lost.without(others) is others


def test_what_is_told_again_changes_nothing() -> None:
    lost = LostGroups()
    [ended] = lost_ids(["login-1"], ["acme:devs"])
    lost.add(ended, NOW + 930)
    lost.add(ended, NOW + 930)
    lost.add(ended, NOW + 100)
    assert lost.generation == 1
    lost.add(ended, NOW + 1000)
    assert lost.generation == 2


def test_it_is_forgotten_when_every_such_token_has_expired() -> None:
    lost = LostGroups()
    first, second = lost_ids(["login-1"], ["acme:devs", "acme:ops"])
    lost.add(first, NOW)
    lost.add(second, NOW + 10)
    lost.forget(NOW + 5)
    assert len(lost) == 1
    lost.forget(NOW + 11)
    assert len(lost) == 0
    assert len(lost_ids(["0b1e6a1c-0000-4000-8000-000000000000"], ["g"])[0]) <= 64
