"""`mk8s demo`: the whole product on this machine, until Ctrl-C.

Called through `mk8s_cli.command_table`. It does what the README's first use does, as a
supervisor of separate programs: the in-memory API (unless --context), `mk8s-central` on SQLite,
`mk8s-agent`, a login with a kubeconfig of its own. It speaks HTTP to central like the rest of
the CLI. Nothing outside its directory is written, the caller's kubeconfig above all.
"""

import importlib.util
import json
import re
import secrets
import shlex
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mk8s_cli.central.api import Central, text
from mk8s_cli.commands.demo_programs import Programs, environment, mk8s_command, module, run
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.terminal.errors import CliError, Unreachable
from mk8s_cli.terminal.interpreter import WINDOWS
from mk8s_cli.terminal.private_files import write_private
from mk8s_cli.terminal.screen import escape

CLUSTER = "demo"
ADMIN, USER = "admin@example.com", "dev@example.com"
NO_KEYRING = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
"""The demo's login is a 0600 file in its directory: the keyring of this machine is left alone."""
NEEDED = ("sqlmodel", "aiosqlite", "httptools", "jsonpatch", "trustme")
RBAC = """\
roles:
  - name: demo-developer
    clusters:
      - {name: demo, namespaces: ["*"], verbs: [get, list, watch, logs], resources: ["*"]}
      - {name: demo, namespaces: [shop, default], verbs: ["*"], resources: ["*", "*/scale"]}
      - {name: demo, namespaces: ["*"], verbs: ["*"], resources: [secrets], deny: true}
users:
  - {email: dev@example.com, roles: [demo-developer]}
"""
BUILT_IN = 'an in-memory Kubernetes API, not a cluster ("mk8s demo --context NAME" takes yours)'
TO_TYPE = (
    ("kubectl get pods", ""),
    ("kubectl logs -f deployment/web", ""),
    ("kubectl exec -it deployment/web -- sh", ""),
    ("kubectl port-forward deployment/web 8080", "and see http://localhost:8080"),
    ("kubectl create deployment hello --image=example/hello", ""),
    ("kubectl get secrets", "refused, and the message says why"),
    ("mk8s status", "who you are and what you may do"),
)
TO_TYPE_ELSEWHERE = (
    ("kubectl get pods -A", ""),
    ("kubectl get secrets", "refused by mk8s, and the message says why"),
    ("mk8s status", "who you are and what you may do"),
)


@click.command(epilog="Example: mk8s demo --context kind-kind")
@click.option("--context", default="", metavar="NAME", help="Use your cluster of this context.")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Of central; 0: any free.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="An empty directory that is kept; without it everything is removed at the end.",
)
def demo(context: str, port: int, data_dir: Path | None) -> None:
    """Run central, an agent, a user and a cluster on this machine until Ctrl-C."""
    if WINDOWS:
        raise CliError("the demo runs on Linux and macOS; on Windows run it in WSL")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        wanted = f"the Python module{'s' * (len(missing) > 1)} {', '.join(missing)}"
        raise CliError(f"'demo' needs {wanted}; run: pip install 'mk8s[demo]'")
    if context:
        _check_context(context)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _directory(data_dir) as directory, Programs(directory) as programs, _bound(port) as at:
            world = Demo(directory, programs, context, at)
            world.start()
            world.explain()
            world.follow()
    except KeyboardInterrupt:
        kept = f"; {data_dir} is kept" if data_dir else ", nothing is left of it"
        click.echo(f"\nthe demo has ended{kept}")
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_context(name: str) -> None:
    known = kubeconfig_files.read().contexts
    if name not in known:
        listed = ", ".join(known) or "(none)"
        raise CliError(f'the kubeconfig has no context "{name}"; the contexts are: {listed}')


@contextmanager
def _directory(wanted: Path | None) -> Iterator[Path]:
    """The directory of one demo: a given one must be empty and stays, a temporary one goes."""
    if wanted is None:
        with tempfile.TemporaryDirectory(prefix="mk8s-demo-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    try:
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_empty = not any(wanted.iterdir())
    except OSError as error:
        raise CliError(f"cannot use {wanted}: {error.strerror}") from error
    if not is_empty:
        raise CliError(f"{wanted} is not empty; a demo starts from nothing: give a new directory")
    yield wanted.resolve()


@contextmanager
def _bound(wanted: int) -> Iterator[socket.socket]:
    """A socket bound to a port of loopback, the wanted one or with 0 any, for central to inherit.

    A port that was only looked up could be somebody else's by the time central binds it.
    """
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", wanted))
        except OSError as error:
            reason = error.strerror or str(error)
            raise CliError(
                f"port {wanted} cannot be used ({reason}); give another --port"
            ) from error
        yield bound


def _folder_to_add() -> str:
    """The folder of the running `mk8s`, where it is not the one on PATH; "" where it is."""
    script = mk8s_command()[0]
    is_script = Path(script).name == "mk8s"
    return str(Path(script).parent) if is_script and shutil.which("mk8s") != script else ""


@dataclass(slots=True)
class Demo:
    """One demo: its place, its programs, its address."""

    directory: Path
    programs: Programs
    context: str
    bound: socket.socket
    """What central listens on."""
    pin: str = ""

    @property
    def url(self) -> str:
        """Where central is."""
        return f"https://127.0.0.1:{self.bound.getsockname()[1]}"

    @property
    def login_environment(self) -> dict[str, str]:
        """What makes the CLI and kubectl use the demo's files instead of the caller's."""
        home = str(self.directory / "home")
        return {"MK8S_HOME": home, "KUBECONFIG": str(self.directory / "kubeconfig")}

    def start(self) -> None:
        """Start everything, in the order in which one needs the other.

        Raises:
            CliError: something did not start; the line says what and why.
        """
        passwords = {email: secrets.token_urlsafe(18) for email in (ADMIN, USER)}
        lines = "".join(f"{email} {password}\n" for email, password in passwords.items())
        write_private(self.directory / "passwords", lines.encode())
        if not self.context:
            click.echo("starting the in-memory Kubernetes API")
            self._start_api()
        click.echo("starting central")
        self._start_central(passwords[ADMIN])
        central = self._log_in_as_admin(passwords)
        click.echo("starting the agent")
        self._start_agent(central)
        self._log_in(passwords[USER])

    def _start_api(self) -> None:
        folder = self.directory / "api"
        command = [*module("mk8s_cli.demo_api"), "--port", "0", "--data-dir", str(folder)]
        self.programs.start("demo-api", command, environment())
        self.programs.wait_until((folder / "kubeconfig").exists, "the in-memory API")

    def _start_central(self, password: str) -> None:
        policy = self.directory / "rbac.yaml"
        policy.write_text(RBAC)
        settings = environment(
            MK8S_DATA_DIR=str(self.directory / "central"),
            MK8S_ADMIN_LISTEN="127.0.0.1:0",
            MK8S_PUBLIC_URL=self.url,
        )
        inherited = self.bound.fileno()
        init = [*module("mk8s_proxy"), "init", "-f", str(policy), "--admin", ADMIN]
        told = run([*init, "--password-stdin"], settings, stdin=f"{password}\n")
        found = re.search(r"sha256:[0-9a-f]{64}", told)
        if found is None:
            raise CliError("mk8s-central init printed no CA pin; is it of the same version?")
        self.pin = found[0]
        serving = settings | {"MK8S_LISTEN": f"fd://{inherited}"}
        serve = [*module("mk8s_proxy"), "serve"]
        self.programs.start("mk8s-central", serve, serving, inherited)
        self.programs.wait_until(self._answers, "central")

    def _answers(self) -> bool:
        from mk8s_cli.central import trust

        try:
            trust.establish(self.url, "", None, self.pin)
        except Unreachable:
            return False
        return True

    def _log_in_as_admin(self, passwords: dict[str, str]) -> Central:
        from mk8s_cli.central import trust
        from mk8s_cli.central.transport import Transport, trusting

        transport = Transport(self.url, trusting(trust.establish(self.url, "", None, self.pin)))
        grant = Central(transport).login(ADMIN, passwords[ADMIN])
        central = Central(transport, grant.access_token.token)
        central.call("PUT", f"/users/{USER}/password", {"password": passwords[USER]})
        return central

    def _start_agent(self, central: Central) -> None:
        created = central.call("POST", "/clusters", {"name": CLUSTER, "labels": {"env": "demo"}})
        command = [*module("mk8s_agent"), "--data-dir", str(self.directory / "agent")]
        if self.context:
            command += ["--context", self.context]
        else:
            command += ["--kubeconfig", str(self.directory / "api" / "kubeconfig")]
        joining = environment(
            CENTRAL_URL=self.url,
            CLUSTER_NAME=CLUSTER,
            AGENT_TOKEN=text(created, "join_token"),
            CA_PIN=self.pin,
        )
        self.programs.start("mk8s-agent", command, joining)

        def connected() -> bool:
            return any(text(item, "status") == "connected" for item in central.items("/clusters"))

        self.programs.wait_until(connected, "the agent")

    def _log_in(self, password: str) -> None:
        variables = environment(**self.login_environment, **NO_KEYRING)
        login = ["login", self.url, "--ca-pin", self.pin, "--email", USER, "--password-stdin"]
        run([*mk8s_command(), *login], variables, stdin=f"{password}\n")
        namespace = "default" if self.context else "shop"
        run([*mk8s_command(), "use", CLUSTER, "-n", namespace], variables)

    def explain(self) -> None:
        """Print what is there and what to type."""
        cluster = f"the cluster of your context {self.context}" if self.context else BUILT_IN
        click.echo(f"\nmk8s demo: central at {self.url}, cluster {CLUSTER!r} is {escape(cluster)}")
        click.echo(f"you are {USER}, may look at all but secrets, and change things in")
        click.echo("namespaces shop and default. In another terminal:\n")
        for name, value in self.login_environment.items():
            click.echo(f"  export {name}={shlex.quote(value)}")
        if folder := _folder_to_add():
            click.echo(f"  export PATH={shlex.quote(folder)}:$PATH")
        lines = TO_TYPE_ELSEWHERE if self.context else TO_TYPE
        for command, note in lines if shutil.which("kubectl") else lines[-1:]:
            click.echo(f"  {command:<56}{'# ' if note else ''}{note}".rstrip())
        if not shutil.which("kubectl"):
            click.echo("\nkubectl is not on PATH: install it to use the cluster")
        if self.context:
            click.echo("\nyour cluster must let the people of mk8s in, for example:")
            grant = "create clusterrolebinding mk8s-users --clusterrole=view --group=mk8s:users"
            click.echo(f"  kubectl --context {escape(self.context)} {grant}")
        click.echo(f"\npasswords of {USER} and {ADMIN}: {self.directory / 'passwords'}")
        click.echo("Ctrl-C ends it. Requests, as the audit log has them:")

    def follow(self) -> None:
        """Print a line for each request until Ctrl-C; raise `CliError` when a program ends."""
        journal = self.directory / "central" / "audit" / "journal.jsonl"
        with journal.open("rb") as rows:
            rows.seek(0, 2)
            rest = b""
            while True:
                *lines, rest = (rest + rows.read()).split(b"\n")
                for line in lines:
                    _show(line)
                self.programs.check()
                time.sleep(0.3)


def _show(line: bytes) -> None:
    """One ended request in one line; discovery, and what is not a row, is left out."""
    try:
        row: Any = json.loads(line)
        code, target = row["responseStatus"]["code"], row.get("objectRef", {})
        refused = row["annotations"].get("authorization.k8s.io/decision") == "forbid"
        if row["stage"] != "ResponseComplete" or not (target.get("resource") or refused):
            return
        names = (target.get(key, "") for key in ("resource", "subresource"))
        what = "/".join(filter(None, names)) or row["requestURI"]
        where = "/".join(filter(None, (target.get("namespace", ""), target.get("name", ""))))
        said = f"{row['verb']} {what} {where}".rstrip()
        who = row.get("user", {}).get("username", "")
        click.echo(escape(f"  {who}  {said}  {code}{' refused' if refused else ''}"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return
