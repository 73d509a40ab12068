"""Which modules mypyc compiles: rooms by name, and what a file says of itself.

A file of these rooms is compiled, a file of any other room is not, unless the comment behind its
docstring says otherwise, with the reason:

    # interpreted: a door to the disk, it waits more than it works
    # compiled: every token that is seen for the first time

So whoever adds a file to a room touches no list. Imported by the build backend and by the tests,
so it needs nothing but the standard library.
"""

import re
from pathlib import Path

ROOMS = (
    "mk8s_agent/apiserver",
    "mk8s_agent/wire/http2",
    "mk8s_proxy/audit",
    "mk8s_proxy/chain",
    "mk8s_proxy/kube",
    "mk8s_proxy/listener",
)
"""Where nearly everything runs for every request or every frame."""

PACKAGES = ("mk8s_agent", "mk8s_proxy")
_MARK = re.compile(r'"""(?:[^"]|"(?!""))*"""\s*\n# (compiled|interpreted): \S')


def mark(file: Path) -> str:
    """What this file says of itself: "compiled", "interpreted" or nothing."""
    found = _MARK.match(file.read_text())
    return found[1] if found else ""


def compiled_modules(checkout: Path) -> list[str]:
    """The files to compile, as paths below the checkout with slashes, in order."""
    found = []
    for package in PACKAGES:
        for file in sorted((checkout / package).rglob("*.py")):
            path = file.relative_to(checkout).as_posix()
            usual = path.rpartition("/")[0] in ROOMS and file.name != "__init__.py"
            if (mark(file) or ("compiled" if usual else "interpreted")) == "compiled":
                found.append(path)
    return found
