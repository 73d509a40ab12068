"""The file system of the demo API's pods, and tar as `kubectl cp` uses it."""

import contextlib
import io
import tarfile
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.demo_api import file_commands, files
from mk8s_cli.demo_api.file_commands import output
from mk8s_cli.demo_api.files import LIMIT_BYTES, FileError, Files, unpack
from mk8s_cli.demo_api.inlet import Inlet

Tree = dict[str, bytes | None]


async def run(tree: Files, *words: str, stdin: bytes = b"") -> bytes:
    """The output of a command."""
    inlet = Inlet()
    inlet.reader.feed_data(stdin)
    inlet.end()
    found = [piece async for piece in output(tree, inlet.reader, words[0], list(words[1:]))]
    return b"".join(found)


def archive(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """Each member with the same content, also where its size says otherwise."""
    padded = content + bytes(-len(content) % tarfile.BLOCKSIZE)
    forms = (tarfile.GNU_FORMAT if it.size < 0 else tarfile.PAX_FORMAT for it in members)
    heads = (it.tobuf(form) for it, form in zip(members, forms, strict=True))
    return b"".join(head + padded for head in heads) + bytes(2 * tarfile.BLOCKSIZE)


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    return made


NAMES = st.sampled_from(["a", "b", "long" * 30, "ä b"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(PATHS, st.binary(max_size=1100) | st.none(), max_size=6))
async def test_what_one_pod_packs_another_unpacks(tree: Tree) -> None:
    """Paths below a file are refused by the first pod already."""
    first, second = Files(), Files()
    for path, content in tree.items():
        with contextlib.suppress(FileError):
            first.write(f"/tmp/{path}", content)
    packed = await run(first, "tar", "cf", "-", "/tmp")
    with tarfile.open(fileobj=io.BytesIO(packed)) as opened:  # others can read it too
        assert [PurePosixPath("/", name) for name in opened.getnames()] == [
            PurePosixPath(path) for path, _ in first.under("/tmp")
        ]
    assert await run(second, "tar", "-xmf", "-", "-C", "/", stdin=packed) == b""
    assert second.under("/") == first.under("/")


@given(st.binary(max_size=2000), st.integers(0, 1100))
async def test_any_bytes_are_an_archive_or_refused(noise: bytes, at: int) -> None:
    good = archive(member("x", size=5), member("y", size=7), content=b"content")
    for raw in (noise, good[:at] + noise[: len(good) - at] + good[at + len(noise) :]):
        tree = Files()
        with contextlib.suppress(FileError, ValueError):
            await unpack(tree, raw, "/tmp")
        assert tree.is_directory("/tmp")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "does not look like a tar archive"),
        (b"no archive", "does not look like a tar archive"),
        (archive(member("x", size=9), content=b"content 9")[:520], "unexpected end of data"),
        (archive(*[member("x", tarfile.GNUTYPE_LONGNAME)] * 2000), "tar archive"),
        (archive(member("x", size=-512)), "tar archive"),
        (archive(member("link", tarfile.SYMTYPE)), "link: Operation not supported"),
        (archive(member("../root")), "/root: Is a directory"),
        (archive(member("a"), member("a/b")), "/tmp/a: Not a directory"),
        (archive(member("n" * 5000)), "File name too long"),
    ],
)
async def test_archives_that_cannot_be_unpacked(raw: bytes, words: str) -> None:
    with pytest.raises((FileError, ValueError), match=words):
        await run(Files(), "tar", "xf", "-", "-C", "/tmp", stdin=raw)


@pytest.mark.parametrize(
    "words",
    [
        ("tar",),
        ("tar", "cf"),
        ("tar", "cf", "-"),
        ("tar", "czf", "-", "/tmp"),
        ("tar", "cf", "archive.tar", "/tmp"),
        ("tar", "xf", "-", "only/this"),
    ],
)
async def test_tar_tells_how_it_is_used(words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="usage: tar cf - PATH"):
        await run(Files(), *words)


async def test_the_words_of_every_kubectl() -> None:
    tree = Files()
    tree.write("/srv", None)
    raw = archive(member("x", size=3), content=b"abc")
    no_preserve = ("--no-same-permissions", "--no-same-owner")
    await run(tree, "tar", *no_preserve, "-xmf", "-", "-C", "/srv", stdin=raw)
    await run(tree, "tar", "xmf", "-", stdin=raw)
    await run(tree, "tar", "-p", "-xf", "-", "-C", "/tmp", stdin=raw)
    assert [name for name, content in tree.under("/") if content] == ["/srv/x", "/tmp/x", "/x"]
    with pytest.raises(FileError, match="/absent: No such file or directory"):
        await run(tree, "tar", "-xmf", "-", "-C", "/absent", stdin=raw)
    with pytest.raises(FileError, match="/absent: No such file or directory"):
        await run(tree, "tar", "cf", "-", "/absent")


async def test_files_are_shown_and_removed() -> None:
    tree = Files()
    tree.write("/tmp/a/b", b"one")
    tree.write("tmp//a/./b", b"other")
    assert await run(tree, "cat", "/tmp/a/b", "/tmp/a/../a/b") == b"otherother"
    assert await run(tree, "ls", "/tmp") == b"/tmp\n/tmp/a\n/tmp/a/b\n"
    assert (await run(tree, "sha256sum", "/tmp/a/b")).startswith(b"d9298a10d1b073")
    with pytest.raises(FileError, match="/tmp/a: Is a directory"):
        await run(tree, "cat", "/tmp/a")
    await run(tree, "rm", "/tmp/a")
    assert await run(tree, "ls") == b"/\n/root\n/tmp\n"
    with pytest.raises(FileError, match="/tmp/a: No such file or directory"):
        await run(tree, "rm", "/tmp/a")


async def test_a_full_pod_says_so_and_has_room_again() -> None:
    tree, half = Files(), bytes(LIMIT_BYTES // 2)
    for _ in range(3):  # what is written over does not count
        tree.write("/tmp/half", half)
    with pytest.raises(FileError, match="/other: No space left on device"):
        tree.write("/other", half)
    assert not [path for path, _ in tree.under("/") if path == "/other"]
    tree.remove("/tmp/half")
    tree.write("/other", half)


async def test_sparse_file_attack() -> None:
    """512 bytes that claim to be more than any memory: refused before they are made."""
    sparse = member("huge")
    sparse.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "huge",
        "GNU.sparse.realsize": str(1 << 50),
        "GNU.sparse.map": f"{1 << 50},0",
    }
    with pytest.raises(FileError, match="huge: No space left on device"):
        await unpack(Files(), archive(sparse), "/tmp")


async def test_endless_archive_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_commands, "LIMIT_BYTES", 1 << 20)
    with pytest.raises(ValueError, match="No space left on device: a pod holds 1 MiB"):
        await run(Files(), "tar", "xf", "-", stdin=bytes(2 << 20))


async def test_many_small_files_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LIMIT_BYTES", 10_000)
    tree = Files()
    many = archive(*[member(str(number)) for number in range(20)])
    with pytest.raises(FileError, match="No space left"):
        await unpack(tree, many, "/")
    assert 10 < len(tree.under("/")) < 20
