"""Prints the part of deploy/requirements.lock that extras of ours need, hashes and all.

    python deploy/docker/locked.py base central > central.txt
    pip install --require-hashes -r central.txt

The lock has everything for everybody. Which of it belongs to an extra is in the lock itself: each
entry says what it is there for ("via"). Needs the standard library alone, since it runs before
anything is installed.
"""

import re
import sys
import tomllib
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[1]
PYPROJECT = DEPLOY.parent / "pyproject.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def wanted(extra: str, project: dict[str, dict[str, list[str]]]) -> set[str]:
    """The names that an extra lists, with those of extras that it includes; "base" is none."""
    extras = project["optional-dependencies"]
    if extra != "base" and extra not in extras:
        raise SystemExit(f"pyproject.toml has no extra {extra}")
    listed = project["dependencies"] if extra == "base" else extras[extra]
    names: set[str] = set()
    for requirement in listed:
        found = NAME.match(requirement)
        assert found is not None
        if found[0] == "mk8s":
            inner = requirement.partition("[")[2].partition("]")[0]
            names |= {it for more in inner.split(",") for it in wanted(more.strip(), project)}
        else:
            names.add(_normal(found[0]))
    return names


def entries(lock: str) -> dict[str, tuple[str, set[str]]]:
    """The entries of a lock by name: their lines, and what they are there for."""
    found: dict[str, tuple[str, set[str]]] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", f"\n{lock}"):
        name = NAME.match(block)
        if name is not None:
            _, _, via = block.partition("# via")
            parents = {_normal(it) for it in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", via)}
            found[_normal(name[0])] = (block.rstrip(), parents)
    return found


def locked(extras: list[str]) -> str:
    """The entries that these extras mean, with what those need, as a requirements file."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    found = entries((DEPLOY / "requirements.lock").read_text())
    chosen = {name for extra in extras for name in wanted(extra, project)}
    if missing := sorted(chosen - set(found)):
        raise SystemExit(f"not in the lock: {', '.join(missing)}; run: tox -e lock")
    while more := {it for it, (_, parents) in found.items() if parents & chosen} - chosen:
        chosen |= more
    return "\n".join(found[name][0] for name in sorted(chosen)) + "\n"


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    sys.stdout.write(locked(sys.argv[1:]))
