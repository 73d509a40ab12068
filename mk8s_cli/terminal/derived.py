"""What was made of other files with much work, kept until one of them changes.

Called by the configuration and by completion, for which reading YAML anew costs more than all the
rest. Keeping is an attempt: where nothing can be written, the work is done each time. Imports what
Python has loaded anyway.

A file is the same as long as its time of change, size and inode are. They are asked for *before*
the work begins: a change meanwhile then makes what is kept stale, and not the other way round.
"""

import os

from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import read_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FORM = "1"
"""Counted up whenever what is kept is to be read in another way."""


def stamp(paths: "Sequence[str]") -> str:
    """Return one line for each file, by which a change of it is seen; a missing file has one."""
    return "".join(f"{_state(path)} {path!a}\n" for path in paths)


def load(path: str, stamped: str) -> str | None:
    """Return what is kept at `path` for files in just this state, None if there is nothing."""
    try:
        content = read_private(path)
        kept = content.decode() if content else ""
    except (CliError, UnicodeDecodeError):
        return None
    head = _head(stamped)
    return kept.removeprefix(head) if kept.startswith(head) else None


def save(path: str, stamped: str, made: str) -> None:
    """Keep at `path` what was made of files in the state `stamped`, if that is possible."""
    from pathlib import Path

    from mk8s_cli.terminal.private_files import ensure_directory, write_private

    try:
        ensure_directory(Path(path).parent)
        write_private(Path(path), (_head(stamped) + made).encode())
    except CliError:
        return  # a disk that is full, a home that is read-only


def _head(stamped: str) -> str:
    return f"{FORM} {stamped.count(chr(10))}\n{stamped}"


def _state(path: str) -> str:
    try:
        state = os.stat(path)  # noqa: PTH116
    except OSError:
        return "-"
    return f"{state.st_mtime_ns} {state.st_size} {state.st_ino}"
