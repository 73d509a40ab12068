"""Secrets out of request targets before they are written down.

Called by the makers of rows; pure but for the operator's patterns. Central never reads a credential
from a URL, but people and tools put them there, and a log is the wrong place for them.

Only so much of a target is looked at as is kept, and what would take long to look at is not kept:
a refusal must not cost more than what was refused. Where it is not sure whether something is a
secret, it is one.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_plus

from mk8s_proxy.settings.patterns import Pattern, compile_pattern

REDACTED: Final = "REDACTED"
SECRET_PARTS: Final = (
    "auth", "bearer", "cred", "jwt", "key", "pass", "pwd", "secret", "session", "sig", "token",
)  # fmt: skip
"""A parameter whose name has one of these in it is a secret, however the name is spelled."""
SECRET_NAMES: Final = frozenset(("code",))
"""Secrets by their whole name: of OAuth's authorization code."""
MAX_PIECES: Final = 256
"""Parts between separators that are looked at; a query that has more is cut there."""
MAX_COMMAND: Final = 2048
"""Characters of an exec command that patterns are tried on; arguments behind are not kept."""
_MAX_MARKS: Final = 16
_MAX_ENCODED_NAMES: Final = 16
_MAX_NAME: Final = 64
"""Longer names that are percent-encoded are not decoded: their values are taken for secrets."""

# Nearly every query is cleared by one search for each of these; "%" may hide a name.
_SUSPICIOUS: Final = (*SECRET_PARTS, "code", "%", "#")
_SEPARATORS: Final = re.compile(r"([&;?])")
_AUTHORITY_END: Final = re.compile(r"[/?#&;]|%2f|%3f|%23|%26")
_MARKS: Final = re.compile(r"://|%3a%2f%2f")
_TOKENS: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?:mk8s_[a-z]{2}_[A-Za-z0-9_-]{8,}+"
    r"|eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+(?:\.[A-Za-z0-9_-]*+)?)"
)


def redact_tokens(text: str) -> str:
    """The text without access tokens (JWT) and mk8s's own tokens, wherever they stand."""
    if "eyJ" in text or "mk8s_" in text:
        return _TOKENS.sub(REDACTED, text)
    return text


def redact_uri(uri: str) -> str:
    """The same target with `REDACTED` for passwords, tokens and values of secret parameters.

    Also done to targets that are refused: those with a second "?", with ";", with a fragment
    (of which nothing is kept) or with a scheme. A query of more than `MAX_PIECES` is cut.
    """
    path, mark, query = uri.partition("?")
    if "#" in path:
        path, mark, query = path.partition("#")[0] + "#" + REDACTED, "", ""
    if mark:
        lowered, suspicious = query.lower(), not query.isascii()
        for part in _SUSPICIOUS:
            suspicious = suspicious or part in lowered
        if suspicious:
            query = _redact_query(query)
    uri = path + mark + query
    if COMMANDS.patterns and "command" in query:
        uri = path + mark + COMMANDS.redact(query)
    if ("@" in uri or "%40" in uri) and ("//" in uri or "%2" in uri):
        uri = _without_passwords(uri)
    return redact_tokens(uri)


def _has_any(text: str, parts: tuple[str, ...]) -> bool:
    for part in parts:  # noqa: SIM110  half of the time of any()
        if part in text:
            return True
    return False


def _redact_query(query: str) -> str:
    """A query part by part; ";" may separate parameters or belong to a secret value."""
    query, fragment, _ = query.partition("#")
    pieces = _SEPARATORS.split(query, MAX_PIECES)
    if len(pieces) > 2 * MAX_PIECES:
        pieces[-1] = ""
    decoder = _Names()
    hidden = False
    for index in range(0, len(pieces), 2):
        if index and pieces[index - 1] == "&":
            hidden = False
        elif hidden:
            pieces[index - 1] = pieces[index] = ""
            continue
        name, equals, _ = pieces[index].partition("=")
        if equals and decoder.is_secret(name):
            pieces[index] = f"{name}={REDACTED}"
            hidden = True
    return "".join(pieces) + (fragment and fragment + REDACTED)


class _Names:
    """Judges the names of one query, and how many of them it decodes."""

    def __init__(self) -> None:
        self._left = _MAX_ENCODED_NAMES

    def is_secret(self, name: str) -> bool:
        """Whether the value under this name is not to be kept."""
        if "%" in name or not name.isascii():
            self._left -= 1
            if self._left < 0 or len(name) > _MAX_NAME:
                return True
            # Compatibility forms and case folding: full-width letters, the Kelvin sign.
            name = unicodedata.normalize("NFKC", unquote_plus(name)).casefold()
            if "%" in name:  # encoded twice
                return True
        else:
            name = name.lower()
        # A proxied application may drop what surrounds the name: brackets and spaces.
        return _has_any(name, SECRET_PARTS) or name.strip(" +[]") in SECRET_NAMES


def _without_passwords(uri: str) -> str:
    """A target without the user information of URLs in it, also of percent-encoded ones."""
    lowered = uri.lower()
    if len(lowered) != len(uri):
        return uri.partition("?")[0].partition("@")[0]
    kept: list[str] = []
    position = 0
    for number, mark in enumerate(_MARKS.finditer(lowered)):
        if number == _MAX_MARKS:  # nobody's URL: the rest is not kept
            return "".join(kept) + uri[position : mark.end()]
        end = _AUTHORITY_END.search(lowered, mark.end())
        stop = end.start() if end else len(uri)
        at = max(lowered.rfind("@", mark.end(), stop), lowered.rfind("%40", mark.end(), stop))
        if at >= 0:
            kept += [uri[position : mark.end()], REDACTED]
            position = at
    return "".join(kept) + uri[position:]


class CommandPatterns:
    """What of exec commands is not kept, as the operator wrote it: `audit.redact_commands`."""

    def __init__(self) -> None:
        self.patterns: list[Pattern] = []

    def use(self, patterns: Iterable[str]) -> None:
        """Take these regular expressions from now on.

        Raises:
            BadPattern: one of them is none.
        """
        self.patterns = [compile_pattern(pattern) for pattern in patterns]

    def redact(self, query: str) -> str:
        """A query whose `command` arguments that a pattern touches are gone.

        The patterns are tried on the arguments joined with spaces. Of a pattern with groups, only
        what its groups touch is a secret.
        """
        parameters = query.split("&")
        places = [i for i, text in enumerate(parameters) if text.startswith("command=")]
        arguments = [unquote_plus(parameters[i][len("command=") :]) for i in places]
        line = " ".join(arguments)[:MAX_COMMAND]
        secrets = [span for pattern in self.patterns for span in _spans(pattern, line)]
        start = 0
        for place, argument in zip(places, arguments, strict=True):
            end = start + len(argument)
            touched = [first for first, last in secrets if first < end and start < last]
            if touched or end > MAX_COMMAND:
                parameters[place] = f"command={REDACTED}"
            start = end + 1
        return "&".join(parameters)


def _spans(pattern: Pattern, line: str) -> Iterable[tuple[int, int]]:
    """Where a pattern finds secrets in a command line."""
    groups = range(1, pattern.groups + 1) if pattern.groups else range(1)
    return [match.span(group) for match in pattern.finditer(line) for group in groups]


COMMANDS: Final = CommandPatterns()
"""Of this process; set once, before the first row."""
