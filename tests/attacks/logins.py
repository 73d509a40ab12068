"""Lock-outs, logins that outlive their end, and the last administrator."""

import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Self

from tests.attacks.attack import Attack, Check, must
from tests.attacks.stage import PASSWORD, Stage, wait_until
from tests.attacks.wire import World, ask

_ADDRESSES = 60
_OWN = ("date", "x-request-id")
"""Headers that differ from answer to answer."""


def _login(world: World, email: str, password: str, source: str) -> tuple[int, dict[str, Any]]:
    import json  # noqa: PLC0415

    body = {"email": email, "password": password}
    status, named, text = ask(world, None, "POST", "/auth/login", body, source=source)
    return status, json.loads(text) | {"retry-after": named.get("retry-after")}


class _Guessers:
    """Threads that try wrong passwords until they are told to stop."""

    def __init__(self, world: World, email: str, sources: list[str], threads: int = 4) -> None:
        self.answers: Counter[int] = Counter()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._guess, args=(world, email, sources[n::threads]))
            for n in range(threads)
        ]

    def _guess(self, world: World, email: str, sources: list[str]) -> None:
        number = 0
        while not self._over.is_set():
            source = sources[number % len(sources)]
            number += 1
            with suppress(OSError):
                self.answers[_login(world, email, "a wrong password", source)[0]] += 1
            self._over.wait(0.02)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


def lock_out(stage: Stage) -> str:
    """60 addresses guess at an account; its owner logs in from where he did before."""
    world, home = stage.world(), "127.0.77.1"
    first, _ = _login(world, "victim@example.com", PASSWORD, home)
    must(first == 200, f"the owner's first login: {first}")
    sources = [f"127.0.66.{1 + n}" for n in range(_ADDRESSES)]
    with _Guessers(world, "victim@example.com", sources) as guessers:
        time.sleep(4 if stage.quick else 20)
        start = time.monotonic()
        status, told = _login(world, "victim@example.com", PASSWORD, home)
        took = time.monotonic() - start
    count = sum(guessers.answers.values())
    must(status == 200, f"the owner got {status}, retry after {told['retry-after']} s")
    looked = guessers.answers[401]
    return f"{count} guesses, {looked} of them looked at; the owner was in after {took:.1f} s"


def matrix(stage: Stage) -> str:
    """A CI matrix: right passwords at the same time are not throttled."""
    world, answers = stage.world(), Counter[int]()

    def one() -> None:
        answers[_login(world, "victim@example.com", PASSWORD, "127.0.78.1")[0]] += 1

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    must(answers == {200: 12}, f"12 right passwords at once: {dict(answers)}")
    return "12 right passwords at once: 12 logins"


def same_answers(stage: Stage) -> str:
    """Unknown user, user without a password, wrong password: byte for byte the same."""
    world, seen = stage.world(), []
    for number, email in enumerate(("nobody@example.com", "dev@example.com", "victim@example.com")):
        body = {"email": email, "password": "a wrong password"}
        answer = ask(world, None, "POST", "/auth/login", body, source=f"127.0.79.{1 + number}")
        status, named, text = answer
        kept = {name: value for name, value in named.items() if name not in _OWN}
        text = text.replace(named.get("x-request-id", "-").encode(), b"(id)")
        seen.append((status, kept, text))
    must(all(it == seen[0] for it in seen), f"they differ: {seen}")
    return f"three kinds of wrong login: {seen[0][0]}, the same bytes"


def last_admin(stage: Stage) -> str:
    """The only administrator deletes, demotes and disables himself."""
    import json  # noqa: PLC0415

    world, told = stage.world(), []
    listed = json.loads(ask(world, "admin", "GET", "/users")[2])
    me = next(it["id"] for it in listed["users"] if it["email"] == "admin@example.com")
    for method, path, body in (
        ("DELETE", f"/users/{me}", None),
        ("PUT", f"/users/{me}/roles", {"roles": []}),
        ("PUT", f"/users/{me}/disabled", {"disabled": True}),
    ):
        status, _, _ = ask(world, "admin", method, path, body)
        must(status == 409, f"{method} {path.rpartition('/')[2]}: {status}")
        told.append(f"{method}: {status}")
    return "; ".join(told)


def logout_and_restart(stage: Stage) -> str:
    """A copied token after its owner logged out, also after a restart of central."""
    world = stage.world()
    status, told = _login(world, "victim@example.com", PASSWORD, "127.0.77.1")
    must(status == 200, f"login: {status}")
    copied = World(world.port, world.authority, {"thief": told["access_token"]}, 0, "")
    target = world.target("/api/v1/namespaces/default/configmaps/copied").decode()
    before = ask(copied, "thief", "GET", target)[0]
    must(before == 200, f"the token itself: {before}")
    ask(world, None, "POST", "/auth/logout", {"refresh_token": told["refresh_token"]})
    ended = wait_until(lambda: ask(copied, "thief", "GET", target)[0] == 401, 5)
    must(ended, "the copied token is good 5 s after the logout")
    stage.central.stop()
    stage.start_central()
    wait_until(lambda: stage.get(f"/k8s/prod{stage.probe}").startswith("200"))
    after = ask(copied, "thief", "GET", target)[0]
    must(after == 401, f"after the restart: {after}")
    return f"{before} before, 401 after the logout, {after} after a restart"


ATTACKS: tuple[Attack, ...] = (
    Check("login-lock-out", "14, E6", "60 addresses guess at a known account", lock_out),
    Check("login-matrix", "14", "right passwords at the same time", matrix),
    Check("login-same-answers", "E5", "who has an account here", same_answers),
    Check("login-last-admin", "7", "the last administrator removes himself", last_admin),
    Check(
        "login-logout-restart",
        "5",
        "a copied token after logout and restart",
        logout_and_restart,
        alone=True,
        harms=True,
    ),
)
