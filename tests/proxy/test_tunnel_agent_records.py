"""Certificates and sightings: one question and one transaction for all who wait."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from mk8s_proxy.db import agents, clusters
from mk8s_proxy.db.agents import Standing
from mk8s_proxy.db.clusters import Sighting
from mk8s_proxy.db.engine import DatabaseUnavailable
from mk8s_proxy.tunnel import agent_records
from mk8s_proxy.tunnel.agent_records import AgentRecords
from tests.support.tasks import LooseBackground

NOW = datetime(2026, 5, 1, tzinfo=UTC)
KNOWN = {f"s{number}": Standing("c1", f"prod-{number}", revoked=False) for number in range(9)}


class Store:
    """The database's answers, given when the test says so."""

    def __init__(self) -> None:
        self.questions: list[set[str]] = []
        self.notes: list[list[Sighting]] = []
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def standings(self, _database: object, serials: Collection[str]) -> dict[str, Standing]:
        self.questions.append(set(serials))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return {serial: KNOWN[serial] for serial in serials if serial in KNOWN}

    async def note_sightings(self, _database: object, sightings: list[Sighting]) -> None:
        self.notes.append(sightings)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    monkeypatch.setattr(agents, "standings", made.standings)
    monkeypatch.setattr(clusters, "note_sightings", made.note_sightings)
    return made


class Records(AgentRecords):
    """With its background at hand."""

    def __init__(self) -> None:
        database: Any = None
        self.background = LooseBackground()
        super().__init__(database, self.background, gather_seconds=0)


def make() -> Records:
    return Records()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ask(records: AgentRecords, *serials: str) -> list["asyncio.Task[Standing | None]"]:
    return [asyncio.ensure_future(records.standing(serial)) for serial in serials]


async def test_those_who_come_during_a_question_share_the_next_one(store: Store) -> None:
    records = make()
    first = ask(records, "s1")
    await turns()
    later = ask(records, "s2", "s3", "s3", "nobody")
    await turns()
    assert store.questions == [{"s1"}]
    store.gate.set()
    answers = await asyncio.gather(*first, *later)
    assert answers == [KNOWN["s1"], KNOWN["s2"], KNOWN["s3"], KNOWN["s3"], None]
    assert store.questions == [{"s1"}, {"s2", "s3", "nobody"}]
    assert await records.standing("s4") == KNOWN["s4"]


async def test_attack_a_revocation_between_two_questions_is_seen(store: Store) -> None:
    """An answer that was on its way before somebody asked is not theirs."""
    records = make()
    first = ask(records, "s1")
    await turns()
    second = ask(records, "s1")
    await turns()
    store.gate.set()
    await asyncio.gather(*first, *second)
    assert store.questions == [{"s1"}, {"s1"}]


async def test_a_herd_is_asked_about_in_parts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_records, "_AT_ONCE", 2)
    store.gate.set()
    records = make()
    assert None not in await asyncio.gather(*ask(records, *KNOWN))
    assert [len(question) for question in store.questions] == [2, 2, 2, 2, 1]


async def test_a_failure_is_for_those_who_asked_and_not_for_the_next(store: Store) -> None:
    records = make()
    store.gate.set()
    store.failure = DatabaseUnavailable("gone")
    failed = await asyncio.gather(*ask(records, "s1", "s2"), return_exceptions=True)
    assert [str(error) for error in failed] == ["gone", "gone"]
    store.failure = None
    assert await records.standing("s1") == KNOWN["s1"]


async def test_a_tunnel_that_goes_while_it_waits(store: Store) -> None:
    records = make()
    gone, stays = ask(records, "s1", "s2")
    await turns()
    gone.cancel()
    store.gate.set()
    assert await stays == KNOWN["s2"]


def sighting(cluster: str, version: str) -> Sighting:
    return Sighting(cluster, version, "v1.31.0", NOW)


async def until_noted(records: Records) -> None:
    assert records._noting
    await records.background.idle()
    assert not records._noting


async def test_sightings_gather_and_the_last_word_counts(store: Store) -> None:
    records = make()
    for it in (sighting("c1", "1"), sighting("c2", "1"), sighting("c1", "2")):
        records.saw(it)
    await turns()
    records.saw(sighting("c1", "3"))  # while the others are written
    store.gate.set()
    await until_noted(records)
    assert store.notes == [
        [sighting("c1", "2"), sighting("c2", "1")],
        [sighting("c1", "3")],
    ]
    records.saw(sighting("c1", "4"))
    await until_noted(records)
    assert store.notes[2:] == [[sighting("c1", "4")]]


async def test_sightings_that_cannot_be_written_are_no_harm(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    records = make()
    store.gate.set()
    store.failure = DatabaseUnavailable("gone")
    records.saw(sighting("c1", "1"))
    await until_noted(records)
    assert "gone" in caplog.text
    store.failure = None
    records.saw(sighting("c1", "2"))
    await until_noted(records)
    assert len(store.notes) == 2


@pytest.mark.parametrize("begin", [lambda it: ask(it, "s1"), lambda it: it.saw(sighting("c", "1"))])
async def test_the_end_stops_what_is_under_way(
    store: Store, begin: Callable[[Records], Awaitable[None] | None]
) -> None:
    records = make()
    begin(records)
    await turns()
    assert records._answering or records._noting
    await records.background.close()
    assert not records._answering
    assert not records._noting
