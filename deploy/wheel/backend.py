"""The build backend: setuptools, and with MK8S_COMPILE=1 the hot modules compiled by mypyc.

    MK8S_COMPILE=1 pip wheel . --no-deps

Pure Python is the default and the reference; the compiled wheel passes the same tests and spends
less time in the interpreter. Named as `build-backend` in pyproject.toml.
"""

import os
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import setuptools
from setuptools import build_meta
from setuptools.command.sdist import sdist

HOT = (
    "mk8s_agent/apiserver/*.py",
    "mk8s_agent/tunnel/session.py",
    "mk8s_agent/wire/chunk_lines.py",
    "mk8s_agent/wire/headers.py",
    "mk8s_agent/wire/hpack_codec.py",
    "mk8s_agent/wire/http1_*.py",
    "mk8s_agent/wire/http2/*.py",
    "mk8s_agent/wire/limits.py",
    "mk8s_agent/wire/memory.py",
    "mk8s_agent/wire/stream.py",
    "mk8s_proxy/audit/*.py",
    "mk8s_proxy/authz/attributes.py",
    "mk8s_proxy/chain/*.py",
    "mk8s_proxy/identity/access_token.py",
    "mk8s_proxy/identity/identity.py",
    "mk8s_proxy/identity/revocations.py",
    "mk8s_proxy/identity/service_token.py",
    "mk8s_proxy/identity/token_claims.py",
    "mk8s_proxy/kube/*.py",
    "mk8s_proxy/listener/*.py",
    "mk8s_proxy/tunnel/re*.py",
    "mk8s_proxy/tunnel/session.py",
)
"""What runs for every request and every frame: whole rooms where all of a room does, else files."""

INTERPRETED = (
    "*/__init__.py",
    "mk8s_agent/apiserver/dial.py",
    "mk8s_agent/apiserver/own_requests.py",
    "mk8s_proxy/audit/follower.py",
    "mk8s_proxy/audit/journal_file.py",
    "mk8s_proxy/audit/record.py",
    "mk8s_proxy/audit/strangers.py",
    "mk8s_proxy/audit/unfinished.py",
    "mk8s_proxy/audit/writer.py",
    "mk8s_proxy/chain/api_upstream.py",
    "mk8s_proxy/kube/protobuf.py",
    "mk8s_proxy/listener/server.py",
)
"""What stays as it is in rooms that are hot: doors to sockets, disks and threads, which wait more
than they work; and what mypyc makes another program of: a type that names itself (`protobuf`) and
what no request waits for (`follower`, `record`, `strangers`, `unfinished`)."""

COMPILE = os.environ.get("MK8S_COMPILE", "") not in ("", "0")


class SourceDistribution(sdist):
    """The sdist with this file in it: without it nothing could be built from the sdist."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copy the files of the sdist."""
        super().make_release_tree(base_dir, [*files, "deploy/wheel/backend.py"])


class Backend(build_meta._BuildMetaBackend):  # noqa: SLF001  setuptools' own subclasses do so
    """setuptools' backend with what pyproject.toml has no words for."""

    def run_setup(self, setup_script: str = "setup.py") -> None:
        """Run the build; called by every hook."""
        compiled = _extensions() if COMPILE and "bdist_wheel" in sys.argv else []
        setuptools.setup(ext_modules=compiled, cmdclass={"sdist": SourceDistribution})

    def get_requires_for_build_wheel(self, config_settings: Any = None) -> list[str]:
        """What the build needs beside setuptools."""
        needed: list[str] = super().get_requires_for_build_wheel(config_settings)
        return [*needed, "mypy[mypyc]>=1.13"] if COMPILE else needed


def _hot_modules() -> list[str]:
    found = {path.as_posix() for pattern in HOT for path in Path().glob(pattern)}
    return sorted(it for it in found if not any(fnmatch(it, pattern) for pattern in INTERPRETED))


def _extensions() -> list[Any]:
    from mypyc.build import mypycify  # noqa: PLC0415  only there when it compiles

    # Libraries are absent in the build, so this is no check of types (that is `tox -e types`):
    # whatever comes from one is Any.
    flags = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return list(mypycify([*flags, *_hot_modules()], opt_level="3"))


_backend = Backend()
build_sdist = _backend.build_sdist
build_wheel = _backend.build_wheel
build_editable = _backend.build_editable
get_requires_for_build_sdist = _backend.get_requires_for_build_sdist
get_requires_for_build_wheel = _backend.get_requires_for_build_wheel
get_requires_for_build_editable = _backend.get_requires_for_build_editable
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable
