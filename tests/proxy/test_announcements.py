"""Workers of one machine tell each other what only one of them would know."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mk8s_proxy.db import announcements
from mk8s_proxy.db.announcements import Announcements


@asynccontextmanager
async def family(folder: Path, count: int = 2) -> AsyncIterator[list[Announcements]]:
    members = [Announcements(folder, number + 1, count) for number in range(count)]
    for member in members:
        member.start()
    try:
        yield members
    finally:
        for member in members:
            member.close()


class Ear:
    """What one worker hears."""

    def __init__(self, member: Announcements, kind: str) -> None:
        self._heard: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()
        member.on(kind, lambda *values: self._heard.put_nowait(values))

    async def next(self) -> tuple[object, ...]:
        async with asyncio.timeout(10):
            return await self._heard.get()

    @property
    def quiet(self) -> bool:
        return self._heard.empty()


async def test_news_reach_all_others_and_not_the_teller(tmp_path: Path) -> None:
    async with family(tmp_path, 3) as members:
        ears = [Ear(member, "revoked") for member in members]
        members[0].tell("revoked", "a token's id", 12.5)
        assert await ears[1].next() == ("a token's id", 12.5)
        assert await ears[2].next() == ("a token's id", 12.5)
        assert ears[0].quiet


async def test_more_news_than_the_kernel_keeps_are_heard_in_order_and_whole(tmp_path: Path) -> None:
    async with family(tmp_path) as (first, second):
        ear = Ear(second, "count")
        for number in range(5000):
            first.tell("count", number)
        assert [await ear.next() for _ in range(5000)] == [(number,) for number in range(5000)]


async def test_a_sibling_that_is_gone_disturbs_nobody(tmp_path: Path) -> None:
    async with family(tmp_path, 3) as (first, second, third):
        ear = Ear(third, "policy")
        second.close()
        first.tell("policy")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
            killed.bind(str(tmp_path / "worker-2.sock"))
        first.tell("policy")  # what a killed one leaves refuses connections
        assert [await ear.next(), await ear.next()] == [(), ()]


async def test_the_next_of_a_number_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
        killed.bind(str(tmp_path / "worker-2.sock"))
    async with family(tmp_path) as (first, second):
        ear = Ear(second, "policy")
        first.tell("policy")
        assert await ear.next() == ()


@pytest.mark.parametrize(
    "message", [b"", b"{", b"7", b"[]", b'["unknown", 1]', b'["strict", 1]', b"\xff", b"[[]]"]
)
async def test_what_makes_no_sense_is_passed_over(tmp_path: Path, message: bytes) -> None:
    async with family(tmp_path) as (first, second):
        ear = Ear(second, "policy")
        second.on("strict", lambda: pytest.fail("called with what it does not take"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(message, str(tmp_path / "worker-2.sock"))
        first.tell("policy")
        assert await ear.next() == ()
        assert ear.quiet


async def test_one_process_tells_nobody() -> None:
    alone = Announcements()
    alone.start()
    alone.tell("policy")
    alone.close()


async def test_news_for_a_sibling_that_hangs_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcements, "_MOST_WAITING", 10)
    async with family(tmp_path) as (first, _):
        for _ in range(2000):  # the other one gets no turn to read meanwhile
            first.tell("policy")
    assert "announcements.not_told" in caplog.text
