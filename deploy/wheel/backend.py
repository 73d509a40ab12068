"""The build backend: setuptools, and with MK8S_COMPILE=1 the hot modules compiled by mypyc.

    MK8S_COMPILE=1 pip wheel . --no-deps

Pure Python is the default and the reference; the compiled wheel passes the same tests and spends
less time in the interpreter. Named as `build-backend` in pyproject.toml.
"""

import os
import sys
from pathlib import Path
from typing import Any

import setuptools
from compiled_modules import compiled_modules
from setuptools import build_meta
from setuptools.command.sdist import sdist

OURS = ("deploy/wheel/backend.py", "deploy/wheel/compiled_modules.py")
COMPILE = os.environ.get("MK8S_COMPILE", "") not in ("", "0")


class SourceDistribution(sdist):
    """The sdist with these files in it: without them nothing could be built from the sdist."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copy the files of the sdist, and those that build it."""
        super().make_release_tree(base_dir, [*files, *OURS])


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


def _extensions() -> list[Any]:
    from mypyc.build import mypycify  # noqa: PLC0415  only there when it compiles

    # Libraries are absent in the build, so this is no check of types (that is `tox -e types`):
    # whatever comes from one is Any.
    flags = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    return list(mypycify([*flags, *compiled_modules(Path())], opt_level="3"))


_backend = Backend()
build_sdist = _backend.build_sdist
build_wheel = _backend.build_wheel
build_editable = _backend.build_editable
get_requires_for_build_sdist = _backend.get_requires_for_build_sdist
get_requires_for_build_wheel = _backend.get_requires_for_build_wheel
get_requires_for_build_editable = _backend.get_requires_for_build_editable
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable
