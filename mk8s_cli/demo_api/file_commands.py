"""The commands of `shell` that work on the files of a pod: what `kubectl cp` runs, and a few more.

kubectl runs `test -d PATH`, `tar -xmf - -C DIR` (with `--no-preserve` two more options) and
`tar cf - PATH`. All files belong to root and have no times, so that these options change nothing.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from mk8s_cli.demo_api.files import BLOCK_BYTES, LIMIT_BYTES, Files, pack, unpack
from mk8s_cli.demo_api.inlet import CHUNK_BYTES

NAMES = ("cat", "ls", "rm", "sha256sum", "tar", "test")
TAR = "tar cf - PATH... or tar xf - [-C DIRECTORY]; m, p and --no-same-... change nothing"


async def output(
    files: Files, stdin: asyncio.StreamReader, name: str, words: list[str]
) -> AsyncIterator[bytes]:
    """What a command writes to stdout; raises FileError and, for wrong use, ValueError."""
    if name == "tar":
        async for piece in _tar(files, stdin, words):
            yield piece
        return
    for path in words or ["/"]:
        match name:
            case "cat":
                yield files.read(path)
            case "ls":
                yield "".join(f"{entry}\n" for entry, _ in files.under(path)).encode()
            case "rm":
                files.remove(path)
            case "sha256sum":
                yield f"{hashlib.sha256(files.read(path)).hexdigest()}  {path}\n".encode()


async def _tar(files: Files, stdin: asyncio.StreamReader, words: list[str]) -> AsyncIterator[bytes]:
    words = [word for word in words if not word.startswith("--no-same-") and word != "-p"]
    flags = "".join(sorted(set("".join(words[:1])) - set("-mp")))
    match flags, words[1:]:
        case "cf", ["-", *paths] if paths:
            for path in paths:
                for piece in pack(files, path):
                    yield piece
            yield bytes(2 * BLOCK_BYTES)
        case "fx", ["-", *where] if not where or (where[0] == "-C" and len(where) == 2):
            await unpack(files, await _all(stdin), where[-1] if where else "/")
        case _ if words == ["--help"]:
            yield f"{TAR}\n".encode()
        case _:
            raise ValueError(f"usage: {TAR}")


async def _all(stdin: asyncio.StreamReader) -> bytes:
    """An archive; ValueError when no pod could hold what is in it."""
    archive = bytearray()
    while chunk := await stdin.read(CHUNK_BYTES):
        archive += chunk
        if len(archive) > LIMIT_BYTES + BLOCK_BYTES * 32:  # the padding at the end of an archive
            raise ValueError(f"No space left on device: a pod holds {LIMIT_BYTES >> 20} MiB")
    return bytes(archive)
