"""Passwords: whole pass phrases count, strangers cost as much as users, floods are turned away."""

import asyncio
import os
import sys
import threading
from typing import Any

import bcrypt
import pytest

from mk8s_proxy.identity import passwords
from mk8s_proxy.identity.passwords import (
    PasswordHasher,
    TooManyChecks,
    check_password,
    hash_password,
)

FAST = 4
"""bcrypt's lowest cost."""


def test_a_password_matches_its_hash_and_no_other() -> None:
    stored = hash_password("correct horse battery", rounds=FAST)
    assert check_password("correct horse battery", stored, rounds=FAST)
    assert not check_password("correct horse batterz", stored, rounds=FAST)
    assert not check_password("", stored, rounds=FAST)
    assert "correct" not in stored


def test_pass_phrases_beyond_the_72_bytes_of_bcrypt_count_whole() -> None:
    stored = hash_password("x" * 100 + "a", rounds=FAST)
    assert check_password("x" * 100 + "a", stored, rounds=FAST)
    assert not check_password("x" * 100 + "b", stored, rounds=FAST)


def test_nul_does_not_end_a_password() -> None:
    stored = hash_password("secret\x00one", rounds=FAST)
    assert not check_password("secret\x00two", stored, rounds=FAST)


def test_accents_match_however_the_keyboard_composes_them() -> None:
    stored = hash_password("caf\u00e9 au lait", rounds=FAST)
    assert check_password("cafe\u0301 au lait", stored, rounds=FAST)


def test_lone_surrogates_are_only_a_wrong_password() -> None:
    assert not check_password("\ud800", hash_password("x", rounds=FAST), rounds=FAST)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "",
        "plain text",
        "bcrypt-hmac-sha256:",
        "bcrypt-hmac-sha256:$2b$04$short",
        "bcrypt-hmac-sha256:\x00",
        pytest.param(bcrypt.hashpw(b"x", bcrypt.gensalt(FAST)).decode(), id="plain bcrypt"),
    ],
)
def test_what_is_no_hash_of_ours_matches_nothing(stored: str | None) -> None:
    assert not check_password("x", stored, rounds=FAST)


def count_work(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    hashes: list[bytes] = []
    original = bcrypt.checkpw

    def counted(password: bytes, hashed: bytes) -> bool:
        hashes.append(hashed[:7])
        return original(password, hashed)

    monkeypatch.setattr(passwords.bcrypt, "checkpw", counted)
    return hashes


def test_an_unknown_user_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same function, called as often, at the same cost: no clock is needed to see it."""
    work = count_work(monkeypatch)
    check_password("guess", hash_password("other", rounds=FAST), rounds=FAST)
    check_password("guess", None, rounds=FAST)
    assert work == [b"$2b$04$", b"$2b$04$"]


def test_the_dummy_hash_has_the_cost_of_stored_ones() -> None:
    assert hash_password("x", rounds=5).split("$")[2] == "05"
    assert passwords._dummy(5)[:7] == b"$2b$05$"
    assert passwords._dummy(passwords.ROUNDS)[:7] == b"$2b$12$"


async def test_the_coroutines_work_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[int] = set()
    original = passwords.check_password

    def noted(*arguments: Any, **options: Any) -> bool:
        threads.add(threading.get_ident())
        return original(*arguments, **options)

    monkeypatch.setattr(passwords, "check_password", noted)
    hasher = PasswordHasher(rounds=FAST)
    stored = await hasher.hash("a password")
    assert await hasher.check("a password", stored)
    assert not await hasher.check("a password", None)
    assert threading.get_ident() not in threads


async def test_who_hashes_steps_back_for_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the cores at most, at a lower priority than the loop has."""
    seen: list[int] = []

    def noted(*_: Any, **__: Any) -> bool:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return True

    monkeypatch.setattr(passwords, "check_password", noted)
    assert await PasswordHasher(rounds=FAST).check("a", None)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert seen == [passwords.NICENESS]
    assert own < passwords.NICENESS


@pytest.mark.parametrize(
    ("cores", "processes", "most"), [(1, 1, 1), (8, 1, 4), (8, 2, 2), (8, 9, 1)]
)
def test_half_of_the_cores_are_left(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, most: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert passwords.at_once(processes) == most


def test_elsewhere_threads_have_no_priority_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(os, "setpriority", None)
    passwords.step_back()
    assert passwords.at_once() == 3


async def test_a_flood_of_logins_is_turned_away_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    running: list[str] = []

    def slow(password: str, stored: str | None, *, rounds: int) -> bool:
        running.append(password)
        return release.wait(60)

    monkeypatch.setattr(passwords, "check_password", slow)
    hasher = PasswordHasher(workers=1, waiting=2)
    async with asyncio.TaskGroup() as group:
        admitted = [group.create_task(hasher.check(str(i), None)) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyChecks):
            await hasher.check("too many", None)
        release.set()
    assert [task.result() for task in admitted] == [True] * 3
    assert "too many" not in running
    assert await hasher.check("later", None), "places are given back"


async def test_a_cancelled_login_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(passwords, "check_password", lambda *_, **__: release.wait(60))
    hasher = PasswordHasher(workers=1, waiting=0)
    first = asyncio.ensure_future(hasher.check("first", None))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    release.set()
    assert await hasher.check("second", None)
