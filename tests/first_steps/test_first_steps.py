"""The first steps of the clients' own documentation, through mk8s, against the demo's API server.

Each client runs as a program of its own, with the kubeconfig that mk8s has written.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Program, private_environment, run

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
CLIENTS = Path(os.environ.get("MK8S_TEST_CLIENTS", ""))
HELLO = "hello from web-6d9f7c-4xk2p"
SECONDS = 120

CLASSES = f"{CLIENTS}/classes:{CLIENTS}/target/dependency/*"
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-cp", CLASSES)
COMMANDS: dict[str, tuple[str, ...]] = {
    "python": (sys.executable, str(HERE / "first_steps.py")),
    "javascript": ("node", str(HERE / "first_steps.mjs")),
    "java": (*JAVA, "FirstSteps"),
    "fabric8": (*JAVA, "Fabric8"),
}
BLUE, GREEN = {"color": "blue"}, {"color": "green"}
LARGER = {"color": "blue", "size": "1"}
CHANGED = ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"]
EXPECTED: dict[str, dict[str, Any]] = {
    "python": {
        "create": ["ConfigMap", "v1", BLUE],
        "patch": LARGER,
        "replace": GREEN,
        "delete": "Success",
        "watch": [[kind, "ConfigMap"] for kind in ("ADDED", "MODIFIED", "MODIFIED", "DELETED")],
        "absent": [404, "NotFound"],
        "deployment": ["example/two", 2],
        "scale": 5,
        "delete deployment": "Success",
        "page": f"{HELLO}\n",
        "exec": "This message goes to stdout\n",
        "interactive exec": ["typed\n", 4],
        "port-forward": "to the echo",
        "refused port": True,
        "log": 3,
        "delete pod": "Pod",
        "limit": [2, True],
        "apply": ["blue", "first-steps"],
    },
    "javascript": {
        "create": ["ConfigMap", "v1", BLUE],
        "patch": LARGER,
        "merge patch": BLUE,
        "replace": GREEN,
        "delete": "Success",
        "watch": [[kind, "ConfigMap"] for kind in CHANGED],
        "absent": [404, "NotFound"],
        "informer": "first-steps-javascript",
        "apply": {"color": "red"},
        "delete again": "Success",
        "limit": [2, True],
        "exec": ["out\n", "sh: nope: not found", "Failure", "3"],
        "attach": True,
        "log": 3,
        "delete pod": "Pod",
        "port-forward": f"{HELLO}\n",
    },
    "java": {
        "create": BLUE,
        "patch": LARGER,
        "apply": "red",
        "replace": GREEN,
        "delete": "Success",
        "watch": CHANGED,
        "absent": [404, True],
        "informer": "first-steps-java",
        "generic delete": True,
        "limit": 2,
        "exec": ["out\n", 3],
        "port-forward": HELLO,
        "log": True,
        "delete pod": "Pod",
    },
    "fabric8": {
        "create": BLUE,
        "edit": LARGER,
        "apply": "red",
        "delete": 1,
        "watch": ["ADDED", "MODIFIED", "MODIFIED", "DELETED"],
        "absent": True,
        "informer": "first-steps-fabric8",
        "pods": 3,
        "exec": [3, "out\n"],
        "port-forward": f"{HELLO}\n",
        "log": 3,
        "delete pod": 1,
    },
}
"""What each client's steps see."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Of a person who is logged in to a running `mk8s demo`."""
    home = tmp_path_factory.mktemp("first-steps")
    made = private_environment(home, PYTHONPATH=str(CHECKOUT), CLIENTS=str(CLIENTS))
    command = [sys.executable, "-m", "mk8s_cli", "demo", "--data-dir", home / "data"]
    with Program("mk8s demo", command, made) as program:
        program.wait_for_line("Ctrl-C ends it", seconds=90)
        own = {"MK8S_HOME": str(home / "data/home"), "KUBECONFIG": str(home / "data/kubeconfig")}
        yield made | own


@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.parametrize("client", COMMANDS)
def test_the_first_steps_of(client: str, environment: Mapping[str, str]) -> None:
    command = COMMANDS[client]
    if client != "python" and not (CLIENTS.name and shutil.which(command[0])):
        pytest.skip("MK8S_TEST_CLIENTS is not set: see deploy/docs/development.md")
    done = run(command, environment, seconds=SECONDS)
    seen = dict(json.loads(line) for line in done.stdout.splitlines())
    assert seen == EXPECTED[client]
