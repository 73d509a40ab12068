"""Where and with what the figures were taken: they mean nothing without it."""

import importlib.metadata
import os
import platform
import re
import shutil
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from mk8s_agent.wire.http2 import connection

_CHECKOUT = Path(__file__).resolve().parents[3]
_LIBRARIES = ("uvloop", "jh2", "httptools", "cryptography", "orjson", "pyjwt")


def is_compiled() -> bool:
    """Whether the hot modules run as compiled extensions."""
    return not str(connection.__file__).endswith(".py")


def describe() -> dict[str, str]:
    """The machine, the versions and the commit, as words."""
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES if _has(name)]
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "build": "compiled" if is_compiled() else "pure Python",
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": load,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "tls": ssl.OPENSSL_VERSION,
        "libraries": ", ".join(libraries),
        "peers": ", ".join(filter(None, map(_version, ("nginx -v", "haproxy -v", "go version")))),
    }


def _has(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _commit() -> str:
    commit = _output("git rev-parse --short HEAD").strip()
    if not re.fullmatch("[0-9a-f]+", commit):
        return "unknown"
    changed = _output("git status --porcelain -- mk8s_proxy mk8s_agent")
    return f"{commit} with changes" if changed else commit


def _cpu_model() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _version(command: str) -> str:
    found = re.search(r"(nginx/|HAProxy version |go version )(\S+)", _output(command))
    return f"{command.split(maxsplit=1)[0]} {found[2]}" if found else ""


def _output(command: str) -> str:
    program, *arguments = command.split()
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if path is None:
        return ""
    done = subprocess.run([path, *arguments], capture_output=True, text=True, cwd=_CHECKOUT)
    return done.stdout + done.stderr
