"""Text between two marks of a file: what a command writes into a page that people write too."""

from pathlib import Path


def replace_between(file: Path, begin: str, end: str, body: str) -> None:
    """Puts `body` where the old text between the marks stood, on lines of its own.

    Raises:
        ValueError: the file has no such place; it is left as it is.
    """
    text = file.read_text()
    if begin not in text or end not in text:
        raise ValueError(f"{file} has no lines {begin!r} and {end!r}")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    file.write_text(f"{before}{begin}\n{body}\n{end}{after}")
