"""A CI job with the programs themselves: it logs in by the token of its issuer, works, and is over.

The issuer is a key of the test's, which central has from a file (`jwks_file`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support import job_tokens
from tests.support.processes import private_environment, run
from tests.support.world import MK8S, World

ISSUER = "https://ci.example.com"
SUBJECT = "repo:acme/shop:ref:refs/heads/main"
JOB = f"federated:ci:{SUBJECT}"
RULE = ("deploy", "--issuer", "ci", "--claim", "repository=acme/*", "--role", "developer")


def token(seconds: int = 600, **claims: Any) -> str:
    said = {"iss": ISSUER, "aud": "mk8s", "sub": SUBJECT, "repository": "acme/shop"}
    return job_tokens.token(said | claims, seconds)


@dataclass(frozen=True)
class Job:
    """A machine of the CI service."""

    world: World
    home: Path

    @property
    def file(self) -> Path:
        return self.home / "token"

    def mk8s(self, *words: str, code: int = 0) -> str:
        done = run([*MK8S, *words], private_environment(self.home), code=code)
        return (done.stdout if code == 0 else done.stderr).strip()

    def log_in(self, code: int = 0) -> str:
        trust = ("--ca-pin", self.world.pin)
        words = ("login", self.world.url, *trust, "--federated", "--token-file", str(self.file))
        return self.mk8s(*words, code=code)

    def forget_access(self, name: str = "*") -> None:
        for cached in (self.home / ".mk8s" / "cache").rglob(f"{name}.json"):
            cached.unlink()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("federation")
    (folder / "jwks.json").write_text(job_tokens.keys())
    issuer = {"name": "ci", "issuer": ISSUER, "audience": "mk8s", "jwks_file": folder / "jwks.json"}
    told = json.dumps([issuer], default=str)
    world = World(folder, {}, MK8S_LOGIN_FEDERATION=told)
    world.initialise()
    world.start_central()
    try:
        admin = world.people["admin"] = world.log_in("admin@example.com")
        admin.mk8s("admin", "clusters", "add", "prod")
        admin.mk8s("admin", "federation", "set", *RULE)
        yield world
    finally:
        world.close()


@pytest.fixture
def job(world: World, tmp_path: Path) -> Job:
    job = Job(world, tmp_path)
    job.file.write_text(token())
    return job


def credential(job: Job) -> dict[str, Any]:
    """The claims of the token that kubectl gets."""
    given = job.mk8s("get-token", "--cluster", "prod", "-o", "token")
    claims: dict[str, Any] = jwt.decode(given, options={"verify_signature": False})
    return claims


def test_a_job_from_its_login_to_its_logout(world: World, job: Job) -> None:
    assert f"logged in to {world.url} as {JOB}" in job.log_in()
    first = credential(job)
    assert first["cluster"] == "prod"
    assert "federated:deploy" in first["groups"]
    assert "by federation" in job.mk8s("status")
    shown = json.loads(job.mk8s("logins", "list", "-o", "json"))
    (login,) = [it for it in shown if it["current"]]
    assert (login["source"], login["issuer"], login["user"]) == ("federation", "ci", JOB)
    # An administrator ends it; the job's token is still good, so it gets in again.
    admin = world.people["admin"]
    admin.mk8s("admin", "logins", "end", login["id"][:8])
    job.forget_access("prod")
    assert credential(job)["sid"] != first["sid"]
    job.mk8s("logout")
    ended = json.loads(admin.mk8s("admin", "logins", "list", "--ended", "-o", "json").stdout)
    of_job = {it["ended_why"] for it in ended if it["user"] == JOB}
    assert of_job == {"revoked", "ended by its owner"}


def test_a_job_that_is_over_and_one_that_is_renewed(world: World, job: Job) -> None:
    job.log_in()
    first = credential(job)
    job.forget_access()
    job.file.write_text(token(-5))
    line = job.mk8s("get-token", "--cluster", "prod", code=1)
    assert "the login of the job is over, and the token in" in line
    assert line.endswith(f"run: mk8s login {world.url} --federated")
    job.file.write_text(token())
    assert credential(job)["sid"] != first["sid"]


def test_a_rule_that_is_removed_ends_the_logins_by_it(world: World, job: Job) -> None:
    admin = world.people["admin"]
    one = ("one-repo", "--issuer", "ci", "--claim", "repository=acme/one", "--role", "viewer")
    admin.mk8s("admin", "federation", "set", *one, "--for", "10m")
    shown = admin.mk8s("admin", "federation", "list").stdout
    assert "repository=acme/one" in shown
    assert "600 s" in shown
    job.file.write_text(token(repository="acme/one"))
    job.log_in()
    admin.mk8s("admin", "federation", "remove", "one-repo", "--yes")
    assert "one-repo" not in admin.mk8s("admin", "federation", "list", "-o", "name").stdout
    refused = admin.mk8s("admin", "federation", "set", "x", "--issuer", "ci", "--claim", "aud=mk8s",
                         "--role", "viewer", code=1)  # fmt: skip
    assert "nothing binds this rule to an owner" in refused.stderr
    ended = json.loads(admin.mk8s("admin", "logins", "list", "--ended", "-o", "json").stdout)
    (login,) = [it for it in ended if it["claims"].get("rules") == "deploy, one-repo"]
    assert login["status"] == "ended"


def test_attack_tokens_of_jobs_that_no_rule_means(job: Job) -> None:
    job.file.write_text(token(repository="evil/shop"))
    assert "no federation rule lets in federated:ci:" in job.log_in(code=1)
    job.file.write_text(token(aud="other"))
    assert job.log_in(code=1).startswith("mk8s: ")
    assert not (job.home / ".mk8s" / "config.yaml").exists()
