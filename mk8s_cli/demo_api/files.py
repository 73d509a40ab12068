"""The file system of a pod, in memory, and tar archives of it; held by `store`, used by `shell`."""

import asyncio
import errno
import io
import os
import posixpath
import tarfile
from collections.abc import Iterator

LIMIT_BYTES = 64 << 20
"""What fits in one pod, the names of its files included."""
BLOCK_BYTES = tarfile.BLOCKSIZE
MAX_PATH = 4096


class FileError(Exception):
    """What cannot be done with a file; the arguments are its path and a code of `errno`."""

    def __str__(self) -> str:
        path, code = self.args
        return f"{path}: {os.strerror(code)}"


class Files:
    """Files and directories by absolute path; all paths are taken from the root."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes | None] = {}
        self._used = 0
        for path in ("/root", "/tmp"):  # noqa: S108 - not of this machine
            self.write(path, None)

    def is_directory(self, path: str) -> bool:
        """Whether there is a directory."""
        return self._entries.get(_absolute(path), b"") is None

    def under(self, path: str) -> list[tuple[str, bytes | None]]:
        """A file, or a directory (None) and all that is in it, in order; raises FileError."""
        top = _absolute(path)
        if top not in self._entries:
            raise FileError(path, errno.ENOENT)
        inside = top.rstrip("/") + "/"
        found = [name for name in self._entries if name == top or name.startswith(inside)]
        return [(name, self._entries[name]) for name in sorted(found)]

    def read(self, path: str) -> bytes:
        """The content of a file; raises FileError."""
        content = self._entries.get(_absolute(path))
        if content is None:
            raise FileError(path, errno.EISDIR if self.is_directory(path) else errno.ENOENT)
        return content

    def write(self, path: str, content: bytes | None) -> None:
        """Writes a file, or makes a directory (None), and all above it; raises FileError."""
        name = _absolute(path)
        if len(name) > MAX_PATH:
            raise FileError(f"{name[:64]}...", errno.ENAMETOOLONG)
        for above in (name[:at] or "/" for at, letter in enumerate(name) if letter == "/"):
            self._put(above, None)
        self._put(name, content)

    def _put(self, name: str, content: bytes | None) -> None:
        if name in self._entries:
            if self.is_directory(name) != (content is None):
                raise FileError(name, errno.ENOTDIR if content is None else errno.EISDIR)
            self._used -= _size(name, self._entries.pop(name))
        self.check_room(name, _size(name, content))
        self._used += _size(name, content)
        self._entries[name] = content

    def check_room(self, path: str, size: int) -> None:
        """Raises FileError where so many bytes more do not fit."""
        if self._used + size > LIMIT_BYTES:
            raise FileError(path, errno.ENOSPC)

    def remove(self, path: str) -> None:
        """Removes a file, or a directory with all that is in it; raises FileError."""
        for name, content in self.under(path):
            self._used -= _size(name, content)
            del self._entries[name]


def _absolute(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _size(name: str, content: bytes | None) -> int:
    return BLOCK_BYTES + len(name) + len(content or b"")


def pack(files: Files, path: str) -> Iterator[bytes]:
    """The pieces of an archive of a file or directory, but for its end; raises FileError."""
    for name, content in files.under(path):
        entry = tarfile.TarInfo(name.lstrip("/") or ".")
        entry.size, entry.mode = len(content or b""), 0o644
        if content is None:
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        yield entry.tobuf()
        yield content or b""
        yield bytes(-entry.size % BLOCK_BYTES)


async def unpack(files: Files, archive: bytes, folder: str) -> None:
    """Writes what is in an archive; raises FileError, ValueError when it is none."""
    if not files.is_directory(folder):
        raise FileError(folder, errno.ENOENT)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as opened:
            for member in opened:
                _unpack_member(files, opened, member, folder)
                await asyncio.sleep(0)  # others want their turn
    except (tarfile.TarError, RecursionError) as error:
        raise ValueError(f"this does not look like a tar archive: {error}") from error


def _unpack_member(
    files: Files, opened: tarfile.TarFile, member: tarfile.TarInfo, folder: str
) -> None:
    path = f"{folder}/{member.name}"
    if member.size < 0:  # the next member would be an earlier one
        raise tarfile.ReadError("a size below nothing")
    if member.isdir():
        files.write(path, None)
    elif member.isreg():
        files.check_room(path, member.size)  # a sparse file may claim anything
        content = opened.extractfile(member)
        files.write(path, content.read() if content else b"")
    else:
        raise FileError(path, errno.EOPNOTSUPP)
