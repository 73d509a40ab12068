"""The end of central goes step by step, and each step comes whatever became of the one before."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.process import supervisor as supervisor_module
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.process.supervisor import Supervisor
from mk8s_proxy.settings.model import Settings


def settings_in(folder: Path) -> Settings:
    return Settings(
        data_dir=folder,
        public_url="https://central.example.com",
        listen="127.0.0.1:0",
        admin_listen="",
    )


class Broken:
    """A server that fails once it has ended."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner

    async def cleanup(self) -> None:
        await self.runner.cleanup()
        raise RuntimeError("on purpose")


def test_the_journal_is_closed_although_the_api_cannot_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_in(tmp_path)

    async def scene() -> None:
        await install(
            settings, AdminChoice("a@example.com", "a long password", lambda _: ""), None, print
        )
        central = Central(settings)
        await central.start()
        [runner] = central._runners
        broken: Any = Broken(runner)
        central._runners = [broken]
        await central.stop(0)
        again = Central(settings)
        await again.start()  # or the journal would still be locked
        await again.stop(0)

    asyncio.run(scene())
    assert "central.stop_failed" in caplog.text


def test_what_never_started_can_be_stopped(tmp_path: Path) -> None:
    async def scene() -> None:
        await Central(settings_in(tmp_path)).stop(0)

    asyncio.run(scene())


def test_a_worker_that_cannot_be_forked_is_tried_again_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor_module.os, "fork", fork)
    parent = Supervisor(settings_in(tmp_path), tmp_path)
    [place] = parent._places
    parent._start_due()
    assert place.pid == 0
    assert place.channel is None
    assert place.due > place.started
    assert not parent._stopping
    assert "worker.not_started" in caplog.text
