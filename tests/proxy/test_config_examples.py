"""The files of deploy/config do what they say, in the real programs.

Only addresses, folders and what a machine has of its own are put in, by environment variables, as
an operator would.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.support.command_lines import CHECKOUT
from tests.support.postgres import PostgresServer
from tests.support.processes import Program, own_port, private_environment, run
from tests.support.world import AGENT, CENTRAL, MK8S, wait_until

EXAMPLES = CHECKOUT / "deploy" / "config"
PASSWORD = "an example's long password"

pytestmark = pytest.mark.timeout(300)  # several programs one after the other, on a busy machine too


@dataclasses.dataclass
class Machine:
    """Where the examples are tried."""

    folder: Path
    opened: ExitStack
    port: int = dataclasses.field(default_factory=own_port)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def home(self, name: str, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        return private_environment(home, **(variables or {}))

    def central(self, example: str, **variables: str) -> str:
        """Make a central and serve it until the end of the test; what `init` printed."""
        environment = self.home(
            "central",
            {
                "MK8S_LISTEN": f"127.0.0.1:{self.port}",
                "MK8S_PUBLIC_URL": self.url,
                "MK8S_ADMIN_LISTEN": "127.0.0.1:0",
                "MK8S_DATA_DIR": str(self.folder / "data"),
                **variables,
            },
        )
        config = ("--config", EXAMPLES / example)
        words = ("init", *config, "-f", EXAMPLES / "rbac.yaml", "--admin", "admin@example.com")
        made = run([*CENTRAL, *words, "--password-stdin"], environment, stdin=f"{PASSWORD}\n")
        checked = run([*CENTRAL, "check-config", *config], environment)
        assert "refresh_seconds: 86400" in checked.stdout
        assert "example.com" not in checked.stderr
        program = Program("mk8s-central", [*CENTRAL, "serve", *config], environment)
        self.opened.enter_context(program).wait_for_port(self.port, seconds=120)
        return made.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with ExitStack() as opened:
        yield Machine(tmp_path, opened)


def test_the_examples_of_a_small_installation(machine: Machine) -> None:
    folder = machine.folder
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "tls.key")
    (folder / "tls.key").chmod(0o600)
    issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")

    told = machine.central(
        "central.yaml",
        MK8S_DATABASE_URL=f"sqlite:///{folder}/central.db",
        MK8S_TLS_CERTIFICATE=str(folder / "tls.crt"),
        MK8S_TLS_KEY=str(folder / "tls.key"),
    )
    assert "role developer: created" in told
    assert "role admin" not in told, "the file repeats the built-in one"
    assert "2 unchanged" in told, "it, and the administrator"

    person = machine.home("person", {"MK8S_CENTRAL": machine.url})
    known = folder / "person" / ".mk8s" / "config.yaml"
    known.parent.mkdir(mode=0o700)
    example = (EXAMPLES / "config.yaml").read_text()
    known.write_text(example.replace("https://mk8s.example.com:8443", machine.url))
    known.chmod(0o600)
    del person["MK8S_CENTRAL"]
    login = ("login", "--email", "admin@example.com", "--password-stdin")
    run([*MK8S, *login, "--ca-file", folder / "ca.pem"], person, stdin=f"{PASSWORD}\n")
    added = run([*MK8S, "admin", "clusters", "add", "prod", "-o", "json"], person)
    start_agent(machine, json.loads(added.stdout)["join_token"])

    def shown() -> str:
        return run([*MK8S, "clusters", "list"], person).stdout

    wait_until(lambda: "connected" in shown(), 120, shown)
    run([*MK8S, "kubeconfig", "sync"], person)
    assert "prod" in run([*MK8S, "status"], person).stdout
    assert "current_cluster: prod\n" in known.read_text()
    assert f"central_url: {machine.url}\n" in known.read_text()


def start_agent(machine: Machine, join_token: str) -> None:
    """The in-memory API as the cluster, and the agent of the example beside it."""
    folder = machine.folder
    command = [sys.executable, "-m", "mk8s_cli.demo_api", "--data-dir", folder / "api"]
    api = machine.opened.enter_context(Program("API", command, machine.home("cluster")))
    api.wait_for_line("kubeconfig")
    environment = machine.home(
        "cluster",
        {
            "CENTRAL_URL": machine.url,
            "AGENT_TOKEN": join_token,
            "MK8S_AGENT_CA_FILE": str(folder / "ca.pem"),
        },
    )
    words = ("--config", EXAMPLES / "agent.yaml", "--kubeconfig", folder / "api" / "kubeconfig")
    machine.opened.enter_context(Program("mk8s-agent", [*AGENT, *words], environment))


def test_the_example_with_postgresql(machine: Machine, postgres_server: PostgresServer) -> None:
    name = postgres_server.create()
    url = postgres_server.url(name).replace("postgresql://", "postgres://")
    told = machine.central(
        "central-postgres.yaml", MK8S_DATABASE_URL=url, DATABASE_PASSWORD="unused"
    )
    assert "user dev@example.com: created" in told
    person = machine.home("person")
    login = ("login", machine.url, "--email", "admin@example.com", "--password-stdin")
    pin = told.partition("--ca-pin ")[2].split()[0]
    run([*MK8S, *login, "--ca-pin", pin], person, stdin=f"{PASSWORD}\n")
    machine.opened.close()
    postgres_server.drop(name)


def test_a_variable_that_the_example_needs_is_asked_for(machine: Machine) -> None:
    words = ("check-config", "--config", EXAMPLES / "central-postgres.yaml")
    done = run([*CENTRAL, *words], machine.home("central"), code=1)
    (line,) = done.stderr.splitlines()
    assert "database.url: the environment variable DATABASE_PASSWORD is not set" in line
