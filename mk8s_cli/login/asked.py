"""Which processes have got the cached token: one that asks again for it was refused with it.

client-go keeps a credential in memory. It runs its plugin once more before that ends only if an
answer was 401, and does not say so: the token's key was retired, or its login has ended. Called by
`cached_token` and `access_tokens`; imports what Python has loaded anyway.
"""

import os
import time

from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import read_private

DOUBT_SECONDS = 30.0
"""A younger token is not doubted: whoever asks for each request gets a new one this often."""
_MOST_BYTES = 65536


def file_of(token_file: str) -> str:
    """Return the file beside a cached token's in which is written who has asked for it."""
    return token_file.removesuffix(".json") + ".asked"


def is_doubted(token_file: str, obtained: float, asking: int) -> bool:
    """Return whether a process asks again for a token, and note that it has got it.

    Args:
        token_file: where the token is cached.
        obtained: when it came, in epoch seconds.
        asking: the id of the process.
    """
    path = file_of(token_file)
    try:
        asked = read_private(path) or b""
    except CliError:
        return False
    if b"%d" % asking in asked.split():
        return time.time() - obtained >= DOUBT_SECONDS
    if len(asked) < _MOST_BYTES:
        _append(path, b"%d\n" % asking)
    return False


def _append(path: str, line: bytes) -> None:
    """Write as much as can be written: without it nobody is doubted."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return
    try:
        os.write(descriptor, line)
    except OSError:
        pass
    finally:
        os.close(descriptor)
