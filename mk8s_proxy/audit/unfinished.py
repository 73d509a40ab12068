"""Requests whose end nobody wrote down: found at the start after a crash, and closed as unknown.

Their intents say that they left for a cluster; what came of them died with the process.
"""

# interpreted: no request waits for it

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson

from mk8s_proxy.audit.rows import timestamp

log = logging.getLogger(__name__)

MAX_UNFINISHED: Final = 65536
"""Requests of one process that are looked for; more cannot have been open."""
HEAD: Final = re.compile(
    rb'[^"]{1,2}"kind":"Event",[^{}]{1,120}"auditID":"([^"]+)","stage":"(\w+)"'
)
"""How a row begins: its audit id and its stage."""


def unfinished(files: Iterable[Path]) -> list[bytes]:
    """The intent rows without an outcome.

    Args:
        files: all of a journal, oldest first. One that cannot be read is left out, and logged.
    """
    found: dict[bytes, bytes] = {}
    for path in files:
        try:
            _read(path, found)
        except OSError as error:
            log.warning("journal.unreadable path=%s error=%s", path, error)
    return list(found.values())


def _read(path: Path, found: dict[bytes, bytes]) -> None:
    with path.open("rb") as lines:
        for line in lines:
            _note(line, found)


def _note(line: bytes, found: dict[bytes, bytes]) -> None:
    head = HEAD.match(line)
    if head is None:
        return
    if head[2] != b"RequestReceived":
        found.pop(head[1], None)
    elif len(found) < MAX_UNFINISHED:
        found[head[1]] = line


def closing_row(intent: bytes, now: float) -> bytes:
    """The ResponseComplete row of a request whose end is unknown.

    Args:
        intent: its row.
        now: seconds since the epoch.
    """
    row = orjson.loads(intent)
    row["stage"] = "ResponseComplete"
    row["stageTimestamp"] = timestamp(now)
    row["responseStatus"] = {"metadata": {}, "code": 0}
    row["annotations"]["mk8s.io/outcome"] = "unknown"
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
