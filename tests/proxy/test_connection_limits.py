"""Which connection ends when there are too many; by the counts alone, without sockets."""

from mk8s_proxy.listener.connection_limits import ConnectionLimits


class Connection:
    def __init__(self, *, authenticated: bool = False) -> None:
        self.authenticated = authenticated
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def client(
    limits: ConnectionLimits, source: str = "", *, authenticated: bool = False
) -> Connection:
    """A new connection that says hello."""
    made = Connection()
    if limits.arrive(made) and (not source or limits.arrive_from(made, source)):
        limits.is_client(made)
    made.authenticated = authenticated
    return made


def ended(connections: list[Connection]) -> list[bool]:
    return [one.aborted for one in connections]


def test_below_the_limits_nobody_ends() -> None:
    limits = ConnectionLimits(10, 10)
    assert not any(ended([client(limits, "192.0.2.1") for _ in range(10)]))
    assert not limits.ended


def test_the_oldest_stranger_ends_first() -> None:
    limits = ConnectionLimits(3, 9)
    known = client(limits, authenticated=True)
    strangers = [client(limits) for _ in range(4)]
    assert ended([known, *strangers]) == [False, True, True, False, False]
    assert limits.ended == {"connections": 2}


def test_who_was_authenticated_meanwhile_stays() -> None:
    limits = ConnectionLimits(2, 9)
    first, second = client(limits), client(limits)
    first.authenticated = True
    client(limits)
    assert ended([first, second]) == [False, True]


def test_the_newcomer_ends_where_all_others_are_somebody_s() -> None:
    limits = ConnectionLimits(2, 9)
    known = [client(limits, authenticated=True) for _ in range(2)]
    assert client(limits).aborted
    assert ended(known) == [False, False]
    limits.remove(known[0])
    assert not client(limits).aborted


def test_attack_sockets_that_say_nothing_push_out_each_other() -> None:
    limits = ConnectionLimits(100, 1000)
    known = [client(limits, authenticated=True) for _ in range(100)]
    silent = [Connection() for _ in range(50)]
    for one in silent:
        limits.arrive(one)
    assert not any(ended(known))
    assert ended(silent) == [True] * 34 + [False] * 16


def test_tunnels_take_places_of_nobody_else() -> None:
    limits = ConnectionLimits(2, 1)
    known = [client(limits, name, authenticated=True) for name in ("192.0.2.1", "192.0.2.2")]
    tunnels = [Connection() for _ in range(8)]
    for one in tunnels:
        assert limits.arrive(one)
        assert limits.arrive_from(one, "192.0.2.1")
        limits.is_tunnel(one)
        one.authenticated = True
    assert not any(ended([*known, *tunnels]))


def test_even_tunnels_have_a_bound() -> None:
    limits = ConnectionLimits(2, 1)
    tunnels = [Connection() for _ in range(19)]
    for one in tunnels:
        limits.arrive(one)
        limits.is_tunnel(one)
        one.authenticated = True
    assert ended(tunnels) == [False] * 18 + [True]


def test_attack_one_address_pays_for_itself() -> None:
    limits = ConnectionLimits(100, 2)
    other = client(limits, "192.0.2.9")
    own = [client(limits, "192.0.2.1") for _ in range(3)]
    assert ended([other, *own]) == [False, True, False, False]
    assert limits.ended == {"connections_per_address": 1}
    arriving = [Connection() for _ in range(3)]
    for one in arriving:
        limits.arrive(one)
        limits.arrive_from(one, "192.0.2.1")
    assert ended(arriving) == [True, False, False]


def test_an_address_without_connections_leaves_nothing_behind() -> None:
    limits = ConnectionLimits(100, 2)
    for number in range(50):
        made = client(limits, f"192.0.2.{number}", authenticated=number % 2 == 0)
        limits.remove(made)
        limits.remove(made)
    assert limits._arriving_from == {}
    assert limits._clients_from == {}
    assert limits._source_of == {}
    assert len(limits._all) == len(limits._clients) == 0
