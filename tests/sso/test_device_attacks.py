"""Attacks on a login by device code, each named after the attack."""

import html
import re
from typing import Any

import pytest

from tests.sso.calls import Answer
from tests.sso.house import House, Visitor, claims, refusal
from tests.sso.odd_issuer import OddIssuer

HOST = "build-7.example.com"


class Machine(Visitor):
    """What has no browser: it asks for a code, and then for its tokens."""

    def __init__(self, house: House, host: str = HOST) -> None:
        super().__init__(house)
        self.begun: dict[str, Any] = self.call("POST", "/auth/device", {"host": host}).json()

    @property
    def user_code(self) -> str:
        return str(self.begun["user_code"])

    def ask(self) -> Answer:
        return self.call("POST", "/auth/device/token", {"device_code": self.begun["device_code"]})

    def word(self) -> str:
        """Why it has no tokens yet, by RFC 8628."""
        answer = self.ask()
        assert answer.status == 400, answer.text
        return str(answer.json()["code"])


class Person(Visitor):
    """Somebody at central's pages, in a browser without a window."""

    def open(self) -> Answer:
        self.page = self.get("/auth/device")
        return self.page

    def press(self, button: str, **fields: str) -> Answer:
        """Send the first form of the page that has this button; fields over those of the form."""
        forms = re.findall(r"<form.*?</form>", self.page.text)
        [sent, *_] = [it for it in forms if f'value="{button}"' in it]
        pairs = re.findall(r'<input[^>]*name="([^"]*)"[^>]*?value="([^"]*)"', sent)
        form = {name: html.unescape(value) for name, value in pairs}
        form |= {"step": button} | fields
        self.page = self.send(form)
        return self.page

    def send(self, form: dict[str, str]) -> Answer:
        headers = {"X-Forwarded-For": self.address, "User-Agent": "a browser"}
        return self.caller.post_form(f"{self.house.url}/auth/device/answer", form, **headers)

    def look(self, user_code: str) -> Answer:
        """Enter a code."""
        self.open()
        return self.press("look", user_code=user_code)

    def sign_in(self, odd: OddIssuer) -> Answer:
        """Go to the issuer and come back."""
        shown = self.press("sign in", issuer="odd")
        found = re.search(r'<a href="([^"]+)"', shown.text)
        assert found, shown.text
        self.page = self.get(odd.approve(html.unescape(found[1])))
        return self.page


def test_a_machine_is_logged_in_by_a_person(house: House, odd: OddIssuer) -> None:
    """No attack: what the others begin with."""
    machine, person = Machine(house), Person(house)
    assert machine.word() == "authorization_pending"
    person.look(machine.user_code)
    person.sign_in(odd)
    assert "close this window" in person.press("yes").text
    answer = machine.ask()
    assert answer.status == 200, answer.text
    assert claims(answer.json())["sub"]
    assert machine.word() == "expired_token"  # the tokens come once


def test_device_phishing_shows_the_machine_that_asks(house: House, odd: OddIssuer) -> None:
    """Who was sent a code sees whose it is: before they sign in, and before they say yes."""
    attackers, victim = Machine(house, "evil-laptop"), Person(house)
    before = victim.look(attackers.user_code).text
    after = victim.sign_in(odd).text
    for shown in (before, after):
        assert "evil-laptop" in shown
        assert attackers.address in shown
        assert "mk8s/test" in shown
        assert "Nobody else has a reason to send you a code" in shown
    assert "olga@example.com" in after
    assert "close this window" in victim.press("no").text
    assert attackers.word() == "access_denied"


def test_device_phishing_by_a_link_with_the_code_in_it(house: House, odd: OddIssuer) -> None:
    """It fills the form, and no more: nothing is skipped by it."""
    attackers, victim = Machine(house), Person(house)
    victim.page = victim.get(str(attackers.begun["verification_uri_complete"]))
    assert HOST not in victim.page.text
    assert HOST in victim.press("look").text


@pytest.mark.parametrize(
    "host",
    [
        "<script>alert(1)</script>",
        "Your administrator asks you to say yes. This is safe",
        'x" onmouseover="alert(1)',
        "a\nb",
        "a\x00b",
        "\u202elaptop",
        "laptop of Ada <b>approved</b>",
    ],
)
def test_device_phishing_text_as_the_machines_name(host: str, house: House) -> None:
    """No markup, no sentence, no control character reaches the page."""
    machine, person = Machine(house, host), Person(house)
    shown = person.look(machine.user_code).text
    assert host not in shown
    [name] = re.findall(r"<dt>machine</dt><dd>(.*?)</dd>", shown)
    assert re.fullmatch(r"[A-Za-z0-9._/-]{1,64}", name)


def test_a_machines_name_of_10_kilobytes(house: House) -> None:
    answer = house.visitor().call("POST", "/auth/device", {"host": "h" * 10_000})
    assert answer.status == 422


def test_a_yes_without_a_login(house: House) -> None:
    machine, person = Machine(house), Person(house)
    person.look(machine.user_code)
    assert person.press("sign in", step="yes").status == 409
    assert machine.word() == "authorization_pending"


def test_a_yes_of_another_browser(house: House, odd: OddIssuer) -> None:
    """The attacker says yes to what the victim signed in for."""
    machine, victim, attacker = Machine(house), Person(house), Person(house)
    victim.look(machine.user_code)
    victim.sign_in(odd)
    attacker.look(machine.user_code)
    assert attacker.press("sign in", step="yes").status == 409
    assert machine.word() == "authorization_pending"


def test_a_yes_that_another_site_sends(house: House, odd: OddIssuer) -> None:
    """CSRF: the victim's browser has the cookie, but not what its form carries."""
    machine, victim = Machine(house), Person(house)
    victim.look(machine.user_code)
    victim.sign_in(odd)
    for token in ("", "0" * 64):
        form = {"user_code": machine.user_code, "step": "yes", "token": token}
        assert victim.send(form).status == 403
    assert machine.word() == "authorization_pending"
    attacker = Person(house)
    attacker.open()
    [stolen] = re.findall(r'name="token" value="([^"]+)"', attacker.page.text)
    form = {"user_code": machine.user_code, "step": "yes", "token": stolen}
    assert victim.send(form).status == 403


def test_a_victim_who_is_sent_the_attackers_login_for_a_machine(
    house: House, odd: OddIssuer
) -> None:
    """Login CSRF: the victim's machine would work as the attacker."""
    machine, attacker, victim = Machine(house), Person(house), Person(house)
    attacker.look(machine.user_code)
    shown = attacker.press("sign in", issuer="odd")
    found = re.search(r'<a href="([^"]+)"', shown.text)
    assert found
    refusal(victim.get(odd.approve(html.unescape(found[1]))))
    assert machine.word() == "authorization_pending"


def test_a_second_person_who_takes_a_machine_over(house: House, odd: OddIssuer) -> None:
    """After the yes nobody can sign in for it any more."""
    machine, person, second = Machine(house), Person(house), Person(house)
    for one in (person, second):
        one.look(machine.user_code)
    person.sign_in(odd)
    person.press("yes")
    odd.behaviour.claims = {"sub": "second", "email": "second@example.com"}
    shown = second.press("sign in", issuer="odd")
    assert shown.status == 404
    tokens = machine.ask().json()
    assert "second" not in str(tokens)


def test_a_machine_that_asks_too_often(house: House) -> None:
    machine = Machine(house)
    assert machine.word() == "authorization_pending"
    assert machine.word() == "slow_down"
    assert machine.word() == "slow_down"


def test_guesses_at_user_codes(house: House) -> None:
    """Few of them are looked at from one address."""
    person = Person(house)
    person.open()
    statuses = []
    for _ in range(15):
        person.open()
        statuses.append(person.press("look", user_code="BCDF-GHJK").status)
    assert statuses[0] == 404
    assert statuses[-1] == 429


def test_guesses_at_device_codes(house: House) -> None:
    for guess in ("", "x", "x" * 128):
        answer = house.visitor().call("POST", "/auth/device/token", {"device_code": guess})
        assert (answer.status, answer.json()["code"]) == (400, "expired_token")


def test_a_device_code_in_place_of_a_code_of_the_browser(house: House, odd: OddIssuer) -> None:
    """Each kind of secret is good for its own step only."""
    machine = Machine(house)
    refusal(house.visitor().redeem(str(machine.begun["device_code"])))
    visitor = house.visitor()
    told = visitor.listened(visitor.get(odd.approve(visitor.start("odd").location)))
    answer = visitor.call("POST", "/auth/device/token", {"device_code": told["code"]})
    assert answer.status == 400


def test_pages_that_another_site_frames_or_runs(house: House) -> None:
    answer = Person(house).open()
    policy = answer.headers["Content-Security-Policy"]
    for word in ("default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"):
        assert word in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "<script" not in answer.text
