"""Secrets out of request URIs before they are written down.

Called by the makers of rows; pure. Central never reads a credential from a URL,
but people and tools put them there, and a log is the wrong place for them.
"""

import re
from typing import Final
from urllib.parse import unquote_plus

REDACTED: Final = "REDACTED"
SECRET_PARAMETERS: Final = frozenset(
    (
        "access_token",
        "api_key",
        "apikey",
        "authorization",
        "client_secret",
        "code",
        "id_token",
        "join_token",
        "password",
        "refresh_token",
        "secret",
        "token",
    )
)
"""Names of query parameters whose values are never stored, whatever their case."""

# Nearly every query is cleared by this one search; a percent sign may hide one of the names.
_SUSPICIOUS: Final = re.compile(
    r"%|api_?key|authorization|code|password|secret|token", re.IGNORECASE
)
_QUERY_START: Final = re.compile(r"[?#]")
_INNER_SEPARATORS: Final = re.compile(r"([?;#])")


def redact_uri(uri: str) -> str:
    """The same URI with `REDACTED` for the values of secret parameters.

    Also done to targets that are refused: those with a second "?", with ";" or with a fragment.
    """
    start = _QUERY_START.search(uri)
    if start is None or _SUSPICIOUS.search(uri, start.end()) is None:
        return uri
    path, query = uri[: start.end()], uri[start.end() :]
    return path + "&".join([_redact(part) for part in query.split("&")])


def _redact(part: str) -> str:
    """One part between ampersands; ";" may separate parameters or belong to the secret value."""
    pieces = _INNER_SEPARATORS.split(part)
    for index, piece in enumerate(pieces):
        name, equals, _ = piece.partition("=")
        # A proxied application may drop what surrounds the name: brackets and spaces.
        plain = unquote_plus(name).strip().strip("[]").lower()
        if equals and plain in SECRET_PARAMETERS:
            return f"{''.join(pieces[:index])}{name}={REDACTED}"
    return part
