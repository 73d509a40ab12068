"""The caller's Python environment: kubectl inside another project's shell, as a process of its own.

The script is what an installer makes of the entry point in pyproject.toml. All three programs, and
what they do in one process, are in tests/test_interpreter.py.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import token_cache

SCRIPT = f"#!{sys.executable}\nimport sys\nfrom mk8s_cli.main import main\nsys.exit(main())\n"
WORDS = ("get-token", "--cluster", "prod", "--central", "https://central.example")
INFO = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Another project, with modules that are called like ours and like those that we use."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("yaml", "click", "json", "typing", "random", "keyring", "mk8s_cli", "pathlib"):
        (folder / f"{name}.py").write_text("raise SystemExit('the module of another project')\n")
    now = time.time()
    token_cache.save("https://central.example", "prod", AccessToken("cached", now, now + 900))
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "bin" / "mk8s"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


def run(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command,
        env={**inherited, "KUBERNETES_EXEC_INFO": json.dumps(INFO), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_plugin_of_a_kubeconfig_is_alone_in_another_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    plugin = kubeconfig_files.plugin()
    command = (plugin.command, *plugin.arguments, *WORDS)
    for environment in (
        {},
        {"PYTHONPATH": str(project)},
        {"PYTHONHOME": str(project)},
        {"PYTHONWARNINGS": "error", "PYTHONINSPECT": "1", "PYTHONDEVMODE": "1"},
    ):
        done = run(*command, folder=project, **environment)
        assert (done.returncode, done.stderr) == (0, ""), environment
        assert json.loads(done.stdout)["status"]["token"] == "cached"


def test_the_script_is_alone_in_another_project(project: Path, script: Path) -> None:
    for name in ("mk8s_cli", "pathlib", "typing"):  # read before any code of ours
        (project / f"{name}.py").unlink()
    for environment in (
        {},
        {"PYTHONPATH": str(project)},
        {"PYTHONPATH": f"{os.pathsep}{project}", "PYTHONVERBOSE": ""},
        {"PYTHONWARNINGS": "error"},
    ):
        done = run(str(script), *WORDS, folder=project, **environment)
        assert (done.returncode, done.stderr) == (0, ""), environment
        shown = run(str(script), "--version", folder=project, **environment)
        assert shown.stdout.startswith("mk8s "), shown.stderr
