"""Service tokens: what a job shows instead of a login, from the environment or a file.

Asked by `config` and `access_tokens`. With one in the environment nothing is read from a home, and
nothing is written there: a container with an empty environment and a read-only disk is enough.
"""

import os
import zlib
from pathlib import Path
from typing import NamedTuple

from mk8s_cli.terminal.errors import CliError

PREFIX = "mk8s_st_"
VARIABLE, FILE_VARIABLE = "MK8S_TOKEN", "MK8S_TOKEN_FILE"
AUTHORITY_FILE, AUTHORITY_PIN = "MK8S_CA_FILE", "MK8S_CA_PIN"
ENVIRONMENT = "environment"
"""Where such a profile has its secret, beside "keyring" and "file"."""

_SECRET, _CHECK = 40, 6
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LONGEST_FILE = 4096


class ServiceToken(NamedTuple):
    """A service token and where it is from."""

    token: str
    path: str
    """The file, absolute; "" for the variable."""


def in_use() -> bool:
    """Whether the environment names a service token: then every command works with it."""
    return bool(os.environ.get(VARIABLE) or os.environ.get(FILE_VARIABLE))


def of_environment() -> ServiceToken:
    """Return the service token that the environment names; its file comes before its variable.

    Raises:
        CliError: there is none, or it is not one.
    """
    path = os.environ.get(FILE_VARIABLE, "")
    if path:
        return ServiceToken(_read(Path(path)), str(Path(path).absolute()))
    return ServiceToken(checked(os.environ.get(VARIABLE, ""), VARIABLE), "")


def is_one(secret: str) -> bool:
    """Whether a stored secret is a service token and no refresh token."""
    return secret.startswith(PREFIX)


def checked(text: str, source: str) -> str:
    """Return a service token without the white space around it; `source` is for the error.

    Raises:
        CliError: it is none, or was mistyped or cut.
    """
    token = text.strip()
    secret, check = token[len(PREFIX) : -_CHECK], token[-_CHECK:]
    if not is_one(token) or len(secret) != _SECRET or set(secret + check) - set(_ALPHABET):
        raise CliError(
            f"{source} holds no service token; it looks like {PREFIX} and 46 letters and digits "
            "(mk8s admin tokens create)"
        )
    if check != _checksum(secret):
        raise CliError(f"{source} holds a service token that was mistyped or cut: copy it again")
    return token


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE)
    except OSError as error:
        raise CliError(f"cannot read the service token in {path}: {error.strerror}") from error
    return checked(content.decode("ascii", "replace"), str(path))


def _checksum(secret: str) -> str:
    """Return the CRC-32 in six digits of base 62, as central appends it."""
    number, digits = zlib.crc32(secret.encode("ascii")), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
