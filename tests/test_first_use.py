"""Command lines of the README and of deploy/docs, run in their order as a reader would type them.

Real programs: central, an agent and, as the cluster, the in-memory API of the demo. The machines
are the operator's with central, a person's, one by the cluster, and where a page has them a CI
job's and one with a browser. Of a command only the address, places of files and what the programs
printed (pin, join token, id of a login) are put in. What needs a machine that is not here is in
`ELSEWHERE`, with the reason; `test_documentation.py` checks its words.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.terminal import Terminal
from tests.support import browsing, command_lines, job_tokens, kubectl, oidc_provider
from tests.support.command_lines import CHECKOUT, CommandLine
from tests.support.processes import Program, own_port, private_environment, run
from tests.support.world import wait_until

DOCS = CHECKOUT / "deploy" / "docs"
README = CHECKOUT / "README.md"
POD = "the-readers-own"
RBAC = "cluster-rbac.yaml"
"""Where the pages put what `mk8s admin cluster-rbac` prints."""
NEW_PASSWORD = "another reader's long password"
STAND_INS = {
    "bin/k9s": "kubectl get pods",  # the real one: tests/conformance/k9s_client.py
    "bin/my-assistant": "kubectl get pods -n shop",
    "restart.sh": "kubectl get pods",
}
"""What a reader lets work with a delegation, as scripts."""
ELSEWHERE = {
    "python": "scripts and benchmarks: each has tests of its own",
    "python3": "installs from a package index: `tox -e package` installs each extra",
    "pip": "builds a wheel with a compiler: `tox -e compiled`",
    ".venv/bin/pip": "installs from a package index: `tox -e package` installs each extra",
    ".venv/bin/mk8s demo": "runs until Ctrl-C: tests/demo/test_demo_command.py",
    ".venv/bin/tox": "the run that this test is part of",
    "docker": "needs a container engine",
    "pytest": "a test of this very run",
    "kubectl apply -f": "needs a cluster that runs pods",
    "kubectl -n mk8s": "needs a cluster that runs pods",
    "kubectl create namespace": "needs a cluster that runs pods",
    "helm": "needs a cluster that runs pods: rendered by tests/test_charts.py",
    "mk8s admin clusters add prod --install": "tests/kube/test_agent_install.py",
    "mk8s admin clusters remove prod --uninstall": "tests/kube/test_agent_install.py",
}
SAID = (
    "mk8s status", "mk8s audit list", "mk8s clusters list", "mk8s logins", "mk8s admin users",
    "mk8s admin lock", "mk8s admin unlock", "mk8s admin logins", "mk8s admin keys rotate",
    "mk8s admin ca show", "mk8s admin ca rotate",
)  # fmt: skip
"""How commands in the prose of operations.md begin that need nothing but an account; for the others
of rotations see tests/test_authority_rotation.py."""
STANDS_FOR = {"EMAIL": "dev@example.com", "WHY": "moves"}
SERVERS = (("mk8s-central", "serve"), ("mk8s-agent",))
WATCHES = {"-w", "--watch"}
OWN_FILES = {"rbac.yaml", RBAC}

pytestmark = [
    pytest.mark.skipif(not kubectl.binaries(), reason="no kubectl: set MK8S_TEST_KUBECTLS"),
    pytest.mark.timeout(300),  # some twenty programs one after the other, on a busy machine too
]


def reason_not_to_run(command: CommandLine) -> str:
    text = " ".join(command.words)
    found = [why for begin, why in ELSEWHERE.items() if f"{text} ".startswith(f"{begin} ")]
    return found[0] if found else ""


class Walk:
    """A reader with three machines, and what has been printed to them so far."""

    def __init__(self, folder: Path, opened: ExitStack, policy: str) -> None:
        self.folder = folder
        self.opened = opened
        self.url = f"https://localhost:{own_port()}"
        self.pin = self.join_token = self.login = ""
        self.passwords: dict[str, str] = {}
        (folder / "rbac.yaml").write_text(policy)
        (folder / "bin").mkdir()
        (folder / "bin" / "kubectl").symlink_to(kubectl.binaries()[-1].resolve())
        for place, line in STAND_INS.items():
            (folder / place).write_text(f"#!/bin/sh\n{line}\n")
            (folder / place).chmod(0o755)
        names = ("central", "person", "cluster", "job")
        self.machines = {name: self._machine(name) for name in names}
        self._start_cluster()

    def _machine(self, name: str) -> dict[str, str]:
        home = self.folder / name
        home.mkdir()
        environment = private_environment(home)
        environment["PATH"] = f"{self.folder / 'bin'}:{environment['PATH']}"
        if name == "central":
            environment |= {
                "MK8S_LISTEN": self.url.replace("https://localhost", "127.0.0.1"),
                "MK8S_PUBLIC_URL": self.url,
                "MK8S_DATA_DIR": str(home / "data"),
                "MK8S_ADMIN_LISTEN": "127.0.0.1:0",
            }
            (self.folder / "central.yaml").write_text("log: {format: text}\n")
        return environment

    def _start_cluster(self) -> None:
        """The in-memory API; its kubeconfig is that of the cluster's machine, as context prod."""
        home = self.folder / "cluster"
        command = [sys.executable, "-m", "mk8s_cli.demo_api", "--data-dir", home / "api"]
        program = Program("in-memory API", command, self.machines["cluster"])
        self.opened.enter_context(program)
        program.wait_for_line("kubeconfig")
        document = yaml.safe_load((home / "api" / "kubeconfig").read_text())
        document["contexts"][0]["name"] = document["current-context"] = "prod"
        (home / ".kube").mkdir()
        (home / ".kube" / "config").write_text(yaml.safe_dump(document))
        binary = str(self.folder / "bin" / "kubectl")
        run([binary, "run", POD, "--image=nginx"], self.machines["cluster"])

    def environment_of(self, command: CommandLine) -> dict[str, str]:
        """The machine where a reader types this."""
        program, *rest = command.words
        if program == "mk8s-central":
            return self.machines["central"]
        if "--federated" in rest:
            return self.machines["job"]
        if rest[0] == "login" and "desk" in self.machines:
            return self.machines["desk"]
        is_administrator = rest[0] in ("apply", "delete")
        by_the_cluster = program == "mk8s-agent" or (program == "kubectl" and is_administrator)
        return self.machines["cluster" if by_the_cluster else "person"]

    def filled_in(self, word: str, home: str) -> str:
        """A word as the reader types it: this central, this pin, this home, this login."""
        word = {**STANDS_FOR, "ID": self.login}.get(word, word)
        if word in OWN_FILES or word.startswith("./"):
            return str(self.folder / word)
        word = word.replace("https://mk8s.example.com", self.url)
        word = word.replace("/etc/mk8s/central.yaml", str(self.folder / "central.yaml"))
        return re.sub(r"^~", home, word.replace("sha256:...", self.pin))

    def take(self, command: CommandLine) -> None:
        """Type one command; AssertionError unless it does what it should."""
        environment = dict(self.environment_of(command))
        home = environment["HOME"]
        words = [self.filled_in(word, home) for word in command.words]
        for name, value in command.variables.items():
            given = self.join_token if name == "AGENT_TOKEN" else value
            environment[name] = self.filled_in(given, home)
        if any(command.words[: len(it)] == it for it in SERVERS):
            self.serve(words, environment)
        elif WATCHES & set(words):
            with Program(str(command), words, environment) as watching:
                watching.wait_for_line(POD)
        elif words[:2] == ["mk8s", "login"] and "--federated" not in words:
            self.log_in(command, words, environment)
        elif "set-password" in words:
            asked = dict.fromkeys(("assword.*: ", "again: "), NEW_PASSWORD)
            self.answer(command, words, environment, asked)
        elif words[-1] == "rotate":  # keys, authorities
            self.answer(command, words, environment, {r"\[y/N\]": "yes"})
        else:
            # `auth can-i` says no by its exit code
            code = None if words[1:3] == ["auth", "can-i"] else 0
            done = run(words, environment, code=code)
            self.read(command, done.stdout, done.stderr)

    def serve(self, words: list[str], environment: dict[str, str]) -> None:
        """Start a program that does not end, until it does its work."""
        program = self.opened.enter_context(Program(words[0], words, environment))
        if words[0] == "mk8s-central":
            program.wait_for_port(int(self.url.rpartition(":")[2]))
            self.central = program
        else:
            wait_until(self.is_connected, 30, lambda: program.output)

    def start_anew(self, settings: dict[str, Any], **variables: str) -> None:
        """Central, with what a page says for its file."""
        (self.folder / "central.yaml").write_text(yaml.safe_dump(settings))
        self.machines["central"] |= variables
        self.central.stop()
        words = ("mk8s-central", "serve", "--config", "/etc/mk8s/central.yaml")
        self.take(CommandLine("the operator", 0, 0, {}, words))

    def is_connected(self) -> bool:
        listed = run(["mk8s", "clusters", "list", "-o", "json"], self.machines["person"])
        return any(item["status"] == "connected" for item in json.loads(listed.stdout))

    def log_in(self, command: CommandLine, words: list[str], environment: dict[str, str]) -> None:
        """As whoever sits there: with a password, or in the browser."""
        you = "you@example.com"
        typed = {"email.*: ": you, "password of .*: ": self.passwords.get(you, "")}
        if "BROWSER" in environment:
            typed = {"Is that the pin": "yes"}
        seen = self.answer(command, words, environment, typed)
        assert f"as {'ann@example.com' if 'BROWSER' in environment else you}" in seen

    def answer(
        self,
        command: CommandLine,
        words: list[str],
        environment: dict[str, str],
        typed: dict[str, str],
    ) -> str:
        """A command that asks at a terminal; what it shows."""
        with Terminal(words, environment, self.folder) as terminal:
            for question, answer in typed.items():
                assert terminal.wait_for(question), terminal.seen
                terminal.type(f"{answer}\n")
            assert terminal.end() == 0, f"{command}:\n{terminal.seen}"
            return terminal.seen

    def read(self, command: CommandLine, printed: str, complaints: str) -> None:
        """Remember what a reader copies from the screen."""
        if found := re.search(r"password of (\S+), shown only now, is (\S+)", printed):
            self.passwords[found[1]] = found[2]
        if command.words[:2] == ("mk8s-central", "init"):
            (self.pin,) = set(re.findall(r"sha256:[0-9a-f]{64}", printed))
        if command.words[:3] == ("mk8s", "admin", "cluster-rbac"):
            (self.folder / RBAC).write_text(printed)
        if found := re.search(r"join token: +(\S+)", printed):
            self.join_token = found[1]
            told = re.search(r"AGENT_TOKEN=\S+ (mk8s-agent .*)", printed)
            assert told, printed
            command_lines.check(told[1].split())
        if command.words[:3] == ("mk8s", "logins", "list"):
            _, *others = (it for it in printed.splitlines() if not it.endswith("*"))
            self.login = others[0].split()[0]
        if shows_pods(command.words):
            assert POD in printed
        assert "Traceback" not in complaints, complaints


def shows_pods(words: tuple[str, ...]) -> bool:
    """Whether the cluster's pod is among what this shows."""
    by_stand_in = STAND_INS.get(f"bin/{words[-1]}", STAND_INS.get(words[-1].removeprefix("./"), ""))
    asked = by_stand_in.split() if words[:2] == ("mk8s", "delegate") else words
    return tuple(asked[:3]) == ("kubectl", "get", "pods") and "-n" not in asked


def typed(page: Path) -> list[CommandLine]:
    """The commands of a page that can be run; a block with containers is one thing."""
    found = list(command_lines.command_lines(page))
    elsewhere = {command.block for command in found if command.words[0] == "docker"}
    return [it for it in found if it.block not in elsewhere and not reason_not_to_run(it)]


def said(page: Path) -> list[CommandLine]:
    """The commands in a page's prose that are run, too."""
    found = command_lines.inline_commands(page.read_text())
    chosen = [it for it in found if " ".join(it).startswith(SAID)]
    return [CommandLine(page.name, 0, 0, {}, it) for it in chosen]


def policy_of(page: Path) -> str:
    return next(it.text for it in command_lines.blocks(page.read_text()) if it.language == "yaml")


def settings_of(page: Path) -> dict[str, Any]:
    """What the page says for central's file."""
    documents = (it.text for it in command_lines.blocks(page.read_text()) if it.language == "yaml")
    found: dict[str, Any] = next(yaml.safe_load(it) for it in documents if it.startswith("login:"))
    return found


def until_use(commands: list[CommandLine]) -> list[CommandLine]:
    """The first use up to the point where kubectl speaks to the cluster."""
    last = next(at for at, it in enumerate(commands) if it.words[:2] == ("mk8s", "use"))
    return commands[: last + 1]


def installed(commands: list[CommandLine]) -> list[CommandLine]:
    """`init` only: what a page about a running central takes for granted."""
    return [it for it in commands if it.words[:2] == ("mk8s-central", "init")]


@pytest.fixture
def walk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Walk]:
    with ExitStack() as opened:
        yield Walk(tmp_path, opened, policy_of(request.param))


@pytest.mark.parametrize("walk", [README], indirect=True, ids=[""])
def test_the_first_use_of_the_readme(walk: Walk) -> None:
    for command in typed(README):
        walk.take(command)
    kubeconfig = (walk.folder / "person" / ".kube" / "config").read_text()
    assert not yaml.safe_load(kubeconfig)["contexts"]


@pytest.mark.parametrize("walk", [README], indirect=True, ids=[""])
def test_the_installation(walk: Walk) -> None:
    for command in typed(DOCS / "installation.md"):
        walk.take(command)


@pytest.mark.parametrize("walk", [DOCS / "policy.md"], indirect=True, ids=[""])
def test_the_examples_of_the_policy(walk: Walk) -> None:
    for command in [*until_use(typed(README)), *typed(DOCS / "policy.md")]:
        walk.take(command)


@pytest.mark.parametrize("walk", [README], indirect=True, ids=[""])
def test_the_tokens_of_jobs(walk: Walk) -> None:
    page = DOCS / "ci-jobs.md"
    for command in until_use(typed(README)):
        walk.take(command)
    settings = settings_of(page)
    (issuer,) = settings["login"]["federation"]
    (walk.folder / "jwks.json").write_text(job_tokens.keys())
    issuer["jwks_file"] = str(walk.folder / "jwks.json")
    walk.start_anew(settings)
    says = {"sub": "1", "repository": "acme/shop", "ref": "refs/heads/main"}
    issued = {"iss": issuer["issuer"], "aud": issuer["audience"]}
    walk.machines["job"]["MK8S_ID_TOKEN"] = job_tokens.token(issued | says)
    for command in typed(page):
        walk.take(command)
    assert "federated:github:1" in run(["mk8s", "status"], walk.machines["job"]).stdout


@pytest.mark.parametrize("walk", [README], indirect=True, ids=[""])
def test_a_delegation(walk: Walk) -> None:
    for command in [*until_use(typed(README)), *typed(DOCS / "delegation.md")]:
        walk.take(command)
    assert not (walk.folder / "for-bob").exists()


@pytest.mark.parametrize("walk", [README], indirect=True, ids=[""])
def test_single_sign_on(walk: Walk) -> None:
    page = DOCS / "single-sign-on.md"
    for command in until_use(typed(README)):
        walk.take(command)
    config = yaml.safe_load((walk.folder / "person" / ".mk8s" / "config.yaml").read_text())
    (walk.folder / "desk").mkdir()
    authority = config["centrals"][0]["certificate_authority"]
    walk.machines["desk"] = browsing.desk(walk.folder / "desk", authority)
    settings = settings_of(page)
    (issuer,) = settings["login"]["issuers"]
    provider = oidc_provider.Provider(oidc_provider.person(groups=["/k8s/devs", "/others"]))
    with browsing.serving(provider):
        issuer |= {"issuer": provider.url, "allow_http": True}
        walk.start_anew(settings, ACME_SECRET=oidc_provider.SECRET)
        for command in typed(page):
            walk.take(command)


@pytest.mark.parametrize("page", ["operations.md", "scaling.md"])
@pytest.mark.parametrize("walk", [README], indirect=True, ids=[""])
def test_a_page_about_running_central(walk: Walk, page: str) -> None:
    for command in [*installed(typed(README)), *typed(DOCS / page)]:
        walk.take(command)


@pytest.mark.parametrize("walk", [README], indirect=True, ids=[""])
def test_what_an_operator_is_told(walk: Walk) -> None:
    commands = said(DOCS / "operations.md")
    begun = {it for it in SAID if any(" ".join(c.words).startswith(it) for c in commands)}
    assert begun == set(SAID)
    for command in [*until_use(typed(README)), *commands]:
        walk.take(command)


WALKED = {
    "README.md", "deploy/docs/installation.md", "deploy/docs/policy.md",
    "deploy/docs/operations.md", "deploy/docs/scaling.md", "deploy/docs/ci-jobs.md",
    "deploy/docs/delegation.md", "deploy/docs/single-sign-on.md",
}  # fmt: skip


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda it: it.name)
def test_no_command_line_is_forgotten(page: Path) -> None:
    """What is walked nowhere has a reason, is the same elsewhere, or is a reference's example."""
    if page.relative_to(CHECKOUT).as_posix() not in WALKED and page.name != "cli.md":
        run_elsewhere = {it.words for it in typed(README)}
        assert {it.words for it in typed(page)} <= run_elsewhere, "run it, or say why not"
