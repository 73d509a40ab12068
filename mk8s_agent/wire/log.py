"""The log of central and of agents: one line per event, as JSON or ``key=value``, without secrets.

Each ``main`` calls :func:`configure` once; everybody else uses the standard library:

    logger = logging.getLogger(__name__)
    logger.info("tunnel.opened", extra={"cluster": "prod", "agent": "a1"})

The message is the event's name, ``extra`` its fields (``extra={"fields": {...}}`` is the same,
for names that logging keeps to itself, such as "name"). Values are escaped, so nobody can forge a
line or send control codes to a terminal; whatever looks like a
credential is replaced, as the last net under "never log one".
"""

import json
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

REDACTED = "[redacted]"
MAX_VALUE_CHARACTERS = 2048
"""Longer values are cut: a log line is not the place for a document."""

_SECRET_NAME = re.compile(
    r"(?i)(?:^|[_-])(?:token|password|passwd|secret|authorization|cookie|private_?key|api_?key|csr"
    r"|bearer|credentials?|jwt|signature)$"
)
_SECRETS = (
    # (pattern, what stands in its place)
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        REDACTED,
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {REDACTED}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*)?"), REDACTED),
    (re.compile(r"\bmk8s_[a-z]{2}_[A-Za-z0-9_-]{8,}"), REDACTED),
    (re.compile(r"(?i)(?<![a-z0-9+.-])([a-z0-9+.-]+://[^\s/:@]*):[^\s/@]+@"), rf"\1:{REDACTED}@"),
    (
        # A parameter's name with one of these in it, as in audit.redaction; within bounds.
        re.compile(
            r"(?i)(?<![\w%.-])([\w%.-]{0,64}?(?:auth|bearer|cred|jwt|key|pass|pwd|secret|session|sig"
            r"|token)[\w%.\[\]-]{0,64}|(?<=[?&])code)=[^&\s\"']+"
        ),
        rf"\1={REDACTED}",
    ),
)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+-]+")
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_HANDLER_NAME = "mk8s"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The program's own log, on standard error. The audit log is another thing."""

    level: str = "info"
    """One of debug, info, warning, error."""
    format: str = "json"
    """"json", one object per line, or "text", ``key=value`` pairs."""

    def problems(self) -> list[str]:
        """What is wrong with them, one line each."""
        problems = []
        if self.level not in {"debug", "info", "warning", "error"}:
            problems.append(f'log.level: "{self.level}" is not debug, info, warning or error')
        if self.format not in {"json", "text"}:
            problems.append(f'log.format: "{self.format}" is not json or text')
        return problems


def redact(text: str) -> str:
    """The text with everything that looks like a credential replaced."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class RedactionFilter(logging.Filter):
    """Cleans a record before any formatter sees it; lets every record through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace secrets in the message and in each field."""
        record.msg = redact(record.getMessage())
        record.args = None
        for name, value in list(_fields(record)):
            setattr(record, name, _clean(name, value))
        if record.exc_info:
            formatted = logging.Formatter().formatException(record.exc_info)
            record.exc_text = redact(formatted)
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per line, ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        """Compose the line."""
        return json.dumps(_entry(record), default=str, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """``time level event key=value ...``, for people; values with odd characters are quoted."""

    def format(self, record: logging.LogRecord) -> str:
        """Compose the line."""
        entry = _entry(record)
        head = f"{entry.pop('time')} {entry.pop('level'):<7} {_word(entry.pop('event'))}"
        return " ".join([head, *(f"{name}={_word(value)}" for name, value in entry.items())])


class WorkerField(logging.Filter):
    """Says in each record which worker it comes from."""

    def __init__(self, worker: int) -> None:
        super().__init__()
        self._worker = worker

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the field."""
        record.__dict__.setdefault("worker", self._worker)
        return True


def configure(
    level: str, form: str, stream: TextIO | None = None, *, worker: int | None = None
) -> None:
    """Send the log of this process to ``stream`` (standard error); a second call replaces it.

    Args:
        level: debug, info, warning or error.
        form: "json" or "text".
        stream: where to, standard error by default.
        worker: which of several processes this is.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name(_HANDLER_NAME)
    handler.setFormatter(TextFormatter() if form == "text" else JsonFormatter())
    # On the handler, not on a logger: loggers do not filter what their children send up.
    handler.addFilter(RedactionFilter())
    if worker is not None:
        handler.addFilter(WorkerField(worker))
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if kept.get_name() != _HANDLER_NAME]
    root.addHandler(handler)
    root.setLevel(level.upper())
    for noisy in ("aiosqlite", "asyncio", "alembic", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in vars(record).items() if name not in _RECORD_FIELDS)


def _clean(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if _SECRET_NAME.search(name):
        return REDACTED
    if isinstance(value, dict):
        return {str(key): _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean("", item) for item in value]
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return _cut(redact(text))


def _cut(text: str) -> str:
    if len(text) <= MAX_VALUE_CHARACTERS:
        return text
    return f"{text[:MAX_VALUE_CHARACTERS]}... ({len(text)} characters)"


def _entry(record: logging.LogRecord) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record.created, UTC)
    entry: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": _cut(record.getMessage()),
        "logger": record.name,
    }
    fields = dict(_fields(record))
    nested = fields.pop("fields", {})
    fields |= nested if isinstance(nested, dict) else {"fields": nested}
    entry |= {name: value for name, value in fields.items() if name not in entry}
    if record.exc_text:
        entry["traceback"] = record.exc_text
    return entry


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
