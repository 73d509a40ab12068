"""The home of a delegation: a directory that is to it what ~/.mk8s is to a person.

Made and ended by `delegate`. What is written there is written by the same functions that write the
person's, with MK8S_HOME set for as long as they run.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mk8s_cli.central.api import Central, Delegated
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import access_tokens, config, credentials, service_token, token_cache
from mk8s_cli.login.config import Config, Profile
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import ensure_directory, read_private, write_private

if TYPE_CHECKING:
    from mk8s_cli.central.api import Grant

KUBECONFIG = "kubeconfig"
MARK = "delegation.json"
"""By this file a directory is known to be one of ours."""
_OURS = (
    "config.yaml", ".config.lock", "credentials.json", ".credentials.lock", "cache", "derived",
    "exec-versions", "kubectl", KUBECONFIG, f"{KUBECONFIG}.lock", MARK,
)  # fmt: skip
_OWNERS = (
    service_token.VARIABLE,
    service_token.FILE_VARIABLE,
    service_token.AUTHORITY_FILE,
    service_token.AUTHORITY_PIN,
)
"""What the owner's environment says of the owner's own credentials."""


@dataclass(frozen=True, slots=True)
class Home:
    """The home of a delegation that may be used."""

    directory: Path
    profile: Profile
    contexts: tuple[str, ...]

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig that leads to the clusters of the delegation."""
        return self.directory / KUBECONFIG


@dataclass(frozen=True, slots=True)
class Opened:
    """The home of a delegation that was made before."""

    profile: Profile
    delegate: str
    refresh_token: str


def usual_place(about: Delegated) -> Path:
    """Return where the home of a delegation is that is nobody's choice."""
    return _places() / about.id


def _places() -> Path:
    return token_cache.home_directory() / "delegations"


def furnish(directory: Path, owner: Profile, grant: "Grant", about: Delegated, wanted: str) -> Home:
    """Write everything that somebody needs to work with the delegation.

    Args:
        directory: empty, or to be made.
        owner: where its owner is logged in.
        grant: the tokens of the delegation.
        about: what it may do.
        wanted: the cluster of its current context, if it may use that.

    Raises:
        CliError: it covers no cluster, or nothing can be written.
    """
    own = replace(owner, email=grant.email, secrets=credentials.FILE, cluster="")
    with _living_in(directory):
        ensure_directory(directory)
        mark = {"id": about.id, "delegate": about.delegate, "ends_at": about.ends_at}
        write_private(directory / MARK, json.dumps(mark).encode())
        credentials.save(own.central, own.email, grant.refresh_token, prefer=credentials.FILE)
        config.update(lambda _: Config(current=own.central, profiles=(own,)))
        token_cache.save(own.central, "", grant.access_token)
        clusters = Central(access_tokens.transport(own), grant.access_token.token).clusters()
        if not clusters:
            raise CliError("the delegation covers no cluster of yours: look at --cluster")
        names = contexts.sync(own, clusters, (directory / KUBECONFIG,)).contexts
        chosen = names.get(wanted) or next(iter(names.values()))
        with kubeconfig_files.editing((directory / KUBECONFIG,)) as kubeconfig:
            kubeconfig.use_context(chosen)
    return Home(directory, own, tuple(names.values()))


def environment(home: Home) -> dict[str, str]:
    """Return the environment of a command that works with the delegation, and with nothing else."""
    kept = {name: value for name, value in os.environ.items() if name not in _OWNERS}
    return kept | {
        "KUBECONFIG": str(home.kubeconfig),
        "MK8S_HOME": str(home.directory),
        "MK8S_CENTRAL": home.profile.central,
    }


def opened(directory: Path) -> Opened:
    """Return what a home says of its delegation. Raises `CliError`: it is none."""
    mark = _mark(directory)
    if not mark:
        raise CliError(f"{directory} holds no delegation of mk8s")
    with _living_in(directory):
        known = config.profile_for()
        stored = credentials.load(known.central, known.email, known.secrets)
    if not stored.refresh_token:
        raise CliError(f"{directory} holds a delegation that has ended; remove it")
    return Opened(known, str(mark.get("delegate", "")), stored.refresh_token)


def remove(directory: Path) -> None:
    """Remove what is ours there, and the directory if nothing else is in it."""
    for name in _OURS:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()


def forget_ended() -> None:
    """Remove the homes in the usual place whose delegations are over by now."""
    places = _places()
    for directory in sorted(places.iterdir()) if places.is_dir() else ():
        ends = str(_mark(directory).get("ends_at", ""))
        with suppress(ValueError, OverflowError, OSError):
            if datetime.fromisoformat(ends).timestamp() < time.time():
                remove(directory)


def _mark(directory: Path) -> dict[str, object]:
    content = read_private(directory / MARK)
    try:
        mark = json.loads(content) if content else {}
    except ValueError:
        mark = {}
    return mark if isinstance(mark, dict) else {}


@contextmanager
def _living_in(directory: Path) -> Iterator[None]:
    """Let everything here work in this home, as a process does that is started there."""
    names = ("MK8S_HOME", *_OWNERS)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["MK8S_HOME"] = str(directory)
    try:
        yield
    finally:
        del os.environ["MK8S_HOME"]
        os.environ.update(before)
