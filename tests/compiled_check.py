"""Builds the compiled wheel, installs it, runs unit tests on it: run by tox.

    python tests/compiled_check.py SCRATCH [PYTEST ARGUMENT...]

The tests run in a folder without the sources, so what they import is what the wheel installed;
that the modules which it should have compiled are machine code is checked first. Without arguments
those tests run that reach compiled modules.
"""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BACKEND = CHECKOUT / "deploy/wheel/backend.py"
PACKAGES = ("mk8s_agent", "mk8s_proxy", "mk8s_cli")
BUILT_FROM = (*PACKAGES, "deploy", "pyproject.toml", "README.md", "LICENSE")
TESTED_WITH = ("tests", "certs", "deploy", "pyproject.toml", "README.md")
WITHOUT_HOT_MODULES = (
    "agent/test_credentials.py",
    "agent/test_join.py",
    "agent/test_pki.py",
    "proxy/test_api_*",
    "proxy/test_passwords.py",
    "proxy/test_ca.py",
    "proxy/test_certs_tools.py",
    "proxy/test_db_*",
    "proxy/test_replicas.py",
)
"""Tests of the management API, the database and the like, where nothing is compiled."""


def hot_modules() -> tuple[str, ...]:
    """The files that the build backend compiles."""
    found = {path.relative_to(CHECKOUT) for it in patterns("HOT") for path in CHECKOUT.glob(it)}
    left_out = patterns("INTERPRETED")
    paths = sorted(path.as_posix() for path in found)
    return tuple(it for it in paths if not any(fnmatch(it, pattern) for pattern in left_out))


def patterns(name: str) -> tuple[str, ...]:
    """One of the backend's lists of files; read, since setuptools need not be installed here."""
    for statement in ast.parse(BACKEND.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            found: tuple[str, ...] = ast.literal_eval(statement.value)
            return found
    sys.exit(f"{BACKEND}: no {name}")


def copy(names: tuple[str, ...], folder: Path) -> Path:
    """A folder with these parts of the checkout."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in names:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    return folder


def install(scratch: Path) -> None:
    """Build the wheel from a copy, since mypyc leaves its C there, and install it here."""
    uv = [sys.executable, "-m", "uv"]
    source, wheels = copy(BUILT_FROM, scratch / "source"), scratch / "dist"
    shutil.rmtree(wheels, ignore_errors=True)
    build = [*uv, "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", wheels]
    subprocess.run([*build, source], check=True, env=os.environ | {"MK8S_COMPILE": "1"})
    [wheel] = wheels.glob("*.whl")
    target = ["--python", sys.executable, "--no-deps", "--reinstall-package", "mk8s", wheel]
    subprocess.run([*uv, "pip", "install", "--quiet", *target], check=True)


def interpreted() -> list[str]:
    """The hot modules that are not machine code as installed."""
    found = []
    for path in hot_modules():
        spec = importlib.util.find_spec(path.removesuffix(".py").replace("/", "."))
        if spec is None or not str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES)):
            found.append(path)
    return found


def main(scratch: Path, arguments: list[str]) -> None:
    """All of it, in a scratch folder of our own."""
    scratch = scratch / "compiled"
    install(scratch)
    if slow := interpreted():
        sys.exit(f"the compiled wheel left as they are: {', '.join(slow)}")
    house = copy(TESTED_WITH, scratch / "tests")
    ignored = [f"--ignore-glob=tests/{pattern}" for pattern in WITHOUT_HOT_MODULES]
    selected = arguments or ["tests/agent", "tests/proxy", *ignored]
    tests = [sys.executable, "-P", "-m", "pytest", "-n", "auto", "-m", "not kube", *selected]
    sys.exit(subprocess.run(tests, cwd=house, check=False).returncode)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
