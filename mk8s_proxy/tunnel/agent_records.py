"""What the database knows of agents: asked and told for many of them at once.

Made by `app`, used by `tunnel.control`. After a restart of central a thousand agents come within
seconds, and each of them beats for ever after: a session with the database for each one would be
most of what its tunnel costs.
"""

import asyncio
import logging
from typing import Final

from mk8s_agent.wire.background import Background
from mk8s_proxy.db import agents, clusters
from mk8s_proxy.db.agents import Standing
from mk8s_proxy.db.clusters import Sighting
from mk8s_proxy.db.engine import Database

log = logging.getLogger(__name__)

_AT_ONCE: Final = 500
"""Certificates of one question: databases bound the values of a statement."""
_PATIENCE: Final = 30.0
_GATHER_SECONDS: Final = 1.0
"""So long a sighting waits for others: it is for people to look at."""


class AgentRecords:
    """Certificates and sightings of agents in the database.

    Args:
        background: where questions and notes run.
        gather_seconds: how long sightings wait for others.
    """

    def __init__(
        self,
        database: Database,
        background: Background,
        *,
        gather_seconds: float = _GATHER_SECONDS,
    ) -> None:
        self._database = database
        self._background = background
        self._gather_seconds = gather_seconds
        self._asked: list[tuple[str, asyncio.Future[Standing | None]]] = []
        self._seen: dict[str, Sighting] = {}
        self._answering = False
        self._noting = False

    async def standing(self, serial: str) -> Standing | None:
        """What is recorded of a certificate, read after this call; None if nothing is.

        While a question is under way the next ones gather, and go as one.

        Raises:
            StoreError: the database does not answer.
        """
        answer: asyncio.Future[Standing | None] = asyncio.get_running_loop().create_future()
        self._asked.append((serial, answer))
        if not self._answering:
            self._answering = True
            self._background.start("agents.standing", self._answer_all())
        return await answer

    def saw(self, sighting: Sighting) -> None:
        """Notes soon what an agent said of itself; of one cluster the last word counts."""
        self._seen[sighting.cluster_id] = sighting
        if not self._noting:
            self._noting = True
            self._background.start("agents.sightings", self._note_all())

    async def _answer_all(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked[:_AT_ONCE], self._asked[_AT_ONCE:]
                await self._answer(asked)
        finally:
            self._answering = False

    async def _answer(self, asked: list[tuple[str, asyncio.Future[Standing | None]]]) -> None:
        serials = {serial for serial, _ in asked}
        error: Exception | None = None
        found: dict[str, Standing] = {}
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await agents.standings(self._database, serials)
        except Exception as failed:  # noqa: BLE001 -- for those who asked
            error = failed
        for serial, answer in asked:
            if answer.done():  # its tunnel has gone
                continue
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found.get(serial))

    async def _note_all(self) -> None:
        try:
            while self._seen:
                await asyncio.sleep(self._gather_seconds)
                seen, self._seen = self._seen, {}
                await self._note(list(seen.values()))
        finally:
            self._noting = False

    async def _note(self, seen: list[Sighting]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await clusters.note_sightings(self._database, seen)
        except Exception:  # the next heartbeat says it again
            log.exception("tunnel.sightings", extra={"clusters": len(seen)})
