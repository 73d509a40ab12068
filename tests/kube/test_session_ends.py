"""Open sessions on a real cluster: they outlive their access token, and end with their login."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import kubectl as kubectls
from tests.support.world import Person, World

pytestmark = [pytest.mark.kube]

TOKEN_SECONDS = 60
LEEWAY_SECONDS = 30
FOLLOW = ("-n", "shop", "logs", "-f", "web", "--tail=1")
SHELL = ("-n", "shop", "exec", "web", "--", "sh", "-c", "while sleep 5; do echo here; done")


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[World]:
    """A central of its own, whose access tokens last a minute."""
    folder = tmp_path_factory.mktemp("brief")
    made = World(
        folder, {"prod": world.clusters["prod"]}, MK8S_TOKENS_ACCESS_SECONDS=str(TOKEN_SECONDS)
    )
    try:
        made.initialise()
        made.start_central()
        made.people["admin"] = made.log_in("admin@example.com")
        made.set_passwords()
        made.add_cluster("prod", made.clusters["prod"])
        made.people["dev"] = made.log_in("dev@example.com")
        made.people["dev"].use("prod")
        yield made
    finally:
        made.close()


@pytest.mark.timeout(300)
def test_sessions_go_on_when_their_token_has_expired(brief: World) -> None:
    """Of all clients at once: it is the token's life that takes time."""
    dev = brief.people["dev"]
    with ExitStack() as ended_together:
        sessions = [
            ended_together.enter_context(dev.kubectl(binary).start(*command))
            for binary in kubectls.binaries()
            for command in (FOLLOW, SHELL)
        ]
        for session in sessions:
            session.wait_for_line("line|here")
        time.sleep(TOKEN_SECONDS + LEEWAY_SECONDS + 5)
        seen = [len(session.output) for session in sessions]
        time.sleep(6)
        for session, before in zip(sessions, seen, strict=True):
            assert session.running, session.output
            assert len(session.output) > before, session.output


def test_followed_logs_that_are_cut_are_no_success(
    newcomer: Callable[[str], Person], binary: Path
) -> None:
    person = newcomer("dev@example.com")
    person.use("prod")
    with person.kubectl(binary).start(*FOLLOW) as session:
        session.wait_for_line("line")
        person.mk8s("logout")
        assert session.wait() != 0, session.output


BUSY = ("-n", "shop", "exec", "web", "--", "sh", "-c", "while true; do echo here; done")


@pytest.mark.parametrize("command", [SHELL, BUSY], ids=["quiet", "busy"])
def test_a_shell_is_told_why_it_ends(
    newcomer: Callable[[str], Person], binary: Path, command: tuple[str, ...]
) -> None:
    """Over WebSocket, and over SPDY, which kubectl spoke before 1.30: no end is a success."""
    person = newcomer("dev@example.com")
    person.use("prod")
    with person.kubectl(binary).start(*command) as session:
        session.wait_for_line("here")
        person.mk8s("logout")
        assert session.wait() != 0, session.output[-1000:]
        assert "mk8s ended this session: logged out" in session.output
