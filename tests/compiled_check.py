"""Builds the compiled wheel, installs it, runs unit tests on it: run by tox.

    python tests/compiled_check.py SCRATCH KEPT [PYTEST ARGUMENT...]

The tests run in a folder without the sources, so what they import is what the wheel installed;
that the modules which it should have compiled are machine code is checked first. Without arguments
those tests run that reach compiled modules; they are left out where the file KEPT says that they
passed with the same compiled modules, tests and interpreter before.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).resolve().parent.parent
RULES = CHECKOUT / "deploy/wheel/compiled_modules.py"
PACKAGES = ("mk8s_agent", "mk8s_proxy", "mk8s_cli")
BUILT_FROM = (*PACKAGES, "deploy", "pyproject.toml", "README.md", "LICENSE")
TESTED_WITH = ("tests", "certs", "deploy", "pyproject.toml", "README.md")
DECISIVE = ("deploy/wheel", "deploy/requirements.lock", "pyproject.toml", "tests", "certs")
"""What the outcome hangs on beside the compiled modules."""
WITHOUT_HOT_MODULES = (
    "agent/test_client_hello.py",
    "agent/test_control.py",
    "agent/test_credentials.py",
    "agent/test_join.py",
    "agent/test_log.py",
    "agent/test_pki.py",
    "agent/test_wire_transport.py",
    "proxy/test_announcements.py",
    "proxy/test_api_*",
    "proxy/test_audit_shipping.py",
    "proxy/test_authz_policy.py",
    "proxy/test_central_main.py",
    "proxy/test_config_examples.py",
    "proxy/test_filtering_large.py",
    "proxy/test_filtering_lists.py",
    "proxy/test_refresh.py",
    "proxy/test_settings.py",
    "proxy/test_supervisor.py",
    "proxy/test_passwords.py",
    "proxy/test_ca.py",
    "proxy/test_certs_tools.py",
    "proxy/test_db_*",
    "proxy/test_exec_*",
    "proxy/test_kubectl_*",
    "proxy/test_replicas.py",
)
"""Tests of the management API, the database and the like, where nothing is compiled, and of whole
programs but one: `test_metrics_programs.py` has two workers, an agent, and requests to both."""


def rules() -> ModuleType:
    """The build backend's rules; by their path, since their folder is no package."""
    spec = importlib.util.spec_from_file_location("compiled_modules", RULES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hot_modules() -> tuple[str, ...]:
    """The files that the build backend compiles."""
    return tuple(rules().compiled_modules(CHECKOUT))


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


def is_left_out(file: Path) -> bool:
    """Whether this file belongs to tests that do not run here."""
    parts = file.relative_to(CHECKOUT).parts
    if parts[0] != "tests" or not file.name.startswith("test_"):
        return False
    name = "/".join(parts[1:])
    chosen = parts[1] in ("agent", "proxy")
    return not chosen or any(fnmatch(name, pattern) for pattern in WITHOUT_HOT_MODULES)


def state() -> str:
    """A hash of all that the outcome of the tests hangs on."""
    found = [CHECKOUT / path for path in hot_modules()]
    for name in DECISIVE:
        path = CHECKOUT / name
        found += path.rglob("*") if path.is_dir() else [path]
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(it for it in found if it.is_file() and "__pycache__" not in it.parts):
        if not is_left_out(file):
            digest.update(f"{file.relative_to(CHECKOUT)} {file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def main(scratch: Path, kept: Path, arguments: list[str]) -> None:
    """All of it, in a scratch folder of our own."""
    now = state()
    if not arguments and kept.is_file() and kept.read_text() == now:
        print(f"neither what is compiled nor its tests changed since they passed ({now[:12]})")
        return
    scratch = scratch / "compiled"
    install(scratch)
    if slow := interpreted():
        sys.exit(f"the compiled wheel left as they are: {', '.join(slow)}")
    house = copy(TESTED_WITH, scratch / "tests")
    ignored = [f"--ignore-glob=tests/{pattern}" for pattern in WITHOUT_HOT_MODULES]
    selected = arguments or ["tests/agent", "tests/proxy", *ignored]
    tests = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-n",
        "auto",
        "-m",
        "not kube and not pure",
        *selected,
    ]
    status = subprocess.run(tests, cwd=house, check=False).returncode
    if status == 0 and not arguments:
        kept.write_text(now)
    sys.exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), sys.argv[3:])
