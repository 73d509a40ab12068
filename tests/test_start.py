"""What the server programs import before they know what is asked: click, and no server.

Times are measured by `python -m tests.bench.bench_start`; here it is counted what causes them. What
the CLI imports is in tests/cli/test_cli_start.py.
"""

import subprocess
import sys

import pytest

HEAVY = {"asyncio", "http", "importlib.metadata", "socket", "sqlite3", "ssl", "multiprocessing"}
PROBE = """
import atexit
import sys
before = set(sys.modules)
atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))
from {package}.__main__ import main
main()
"""


def modules_of(package: str, *words: str) -> set[str]:
    """Run a program that ends with 0, in a process of its own; the modules that it imported."""
    command = [sys.executable, "-c", PROBE.format(package=package), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(done.stderr.splitlines()[-1].split())


def foreign(modules: set[str]) -> set[str]:
    """What is neither Python's nor ours."""
    ours = {"mk8s_agent", "mk8s_proxy"}
    return {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - ours


@pytest.mark.parametrize(
    "words", [("-h",), ("init", "-h"), ("serve", "-h"), ("migrate", "-h"), ("check-config", "-h")]
)
def test_help_of_central_imports_no_server(words: tuple[str, ...]) -> None:
    modules = modules_of("mk8s_proxy", *words)
    assert foreign(modules) == {"click"}
    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith(("mk8s_proxy.", "mk8s_agent."))} == {
        "mk8s_agent.wire",
        "mk8s_agent.wire.interpreter",
        "mk8s_proxy.__main__",
        "mk8s_proxy.process",
        "mk8s_proxy.process.main",
        "mk8s_proxy.settings",
        "mk8s_proxy.settings.config_variable",
    }


def test_help_of_the_agent_imports_no_agent() -> None:
    modules = modules_of("mk8s_agent", "--help")
    assert foreign(modules) == {"click"}
    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith("mk8s_agent.")} == {
        "mk8s_agent.__main__",
        "mk8s_agent.command",
        "mk8s_agent.wire",
        "mk8s_agent.wire.interpreter",
    }


@pytest.mark.parametrize("package", ["mk8s_proxy", "mk8s_agent"])
def test_a_version_needs_no_server(package: str) -> None:
    modules = modules_of(package, "--version")
    assert foreign(modules) == {"click"}
    assert modules & {"asyncio", "sqlite3", "ssl"} == set()


def test_what_a_command_works_with_is_seen_by_the_probe() -> None:
    modules = modules_of("mk8s_proxy", "check-config")
    assert {"sqlalchemy", "cryptography"} <= foreign(modules)
