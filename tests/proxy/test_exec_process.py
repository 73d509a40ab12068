"""A run of kubectl for a caller: its cage, its limits, its end. The programs are stand-ins."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mk8s_proxy.api import exec_child, exec_process
from mk8s_proxy.api.exec_process import Command, Ended, Gone, Limits, Stream, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are run on Linux only")
MIB = 1 << 20
needs_landlock = pytest.mark.skipif(
    sys.platform != "linux" or exec_child.landlock_version() < 4, reason="needs Linux 6.7"
)
Script = Callable[[str], tuple[Path, ...]]


class Heard:
    """A sink that keeps all, and may say that nobody listens."""

    def __init__(self) -> None:
        self.said: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        self.gone = False
        self.something = asyncio.Event()

    async def take(self, stream: Stream, data: bytes) -> None:
        self.said[stream] += data
        self.something.set()

    async def look(self) -> None:
        if self.gone:
            raise Gone

    @property
    def output(self) -> str:
        return self.said["stdout"].decode()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A program that runs some Python, and all it needs for that."""

    def make(text: str) -> tuple[Path, ...]:
        program = tmp_path / "program"
        program.write_text(f"#!{os.path.realpath(sys.executable)} -IS\nimport os, sys\n{text}\n")
        program.chmod(0o700)
        found = {
            Path(os.path.realpath(sys.executable)),
            Path(os.__file__).parent,
            Path(sys.base_prefix) / "lib",
        }
        return (program, *found)

    return make


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o700)
    return folder


async def tried(
    programs: tuple[Path, ...], runs: Path, heard: Heard, *arguments: str, stdin: bytes = b"",
    seconds: float = 60.0, output: int = MIB, memory: int = 512 * MIB, port: int = 1,
) -> Ended:  # fmt: skip
    command = Command(arguments, {"config": b"secret"}, stdin)
    limits = Limits(seconds, output, memory)
    try:
        return await run(programs, command, heard, limits, port=port, parent=runs)
    finally:
        assert list(runs.iterdir()) == [], "its folder is gone, with the token in it"


async def test_a_run_has_its_arguments_its_input_and_its_exit_code(
    script: Script, runs: Path
) -> None:
    heard = Heard()
    program = script(
        "sys.stdout.write(sys.stdin.read()); sys.stderr.write(repr(sys.argv[1:])); sys.exit(3)"
    )
    ended = await tried(program, runs, heard, "get", "--x=y z", stdin="Größe".encode())
    assert (ended.exit_code, ended.ending) == (3, "exit")
    assert heard.output == "Größe"
    assert heard.said["stderr"] == b"['get', '--x=y z']"
    assert ended.output_bytes == len("Größe".encode()) + len(heard.said["stderr"])


async def test_nothing_of_central_s_environment_and_home_reaches_it(
    script: Script, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MK8S_DATABASE_URL", "postgresql://user:password@host/")
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://evil.example")
    heard = Heard()
    program = script(
        "import json; folder = os.getcwd(); s = os.stat(folder); print(json.dumps(["
        "dict(os.environ), folder, s.st_mode & 0o777, os.stat('config').st_mode & 0o777,"
        "os.listdir('.'), open('config').read(), os.getsid(0) == os.getpid()]))"
    )
    await tried(program, runs, heard)
    variables, folder, mode, config_mode, files, config, leads = json.loads(heard.output)
    assert set(variables) - {"LC_CTYPE"} == {
        "HOME", "KUBECONFIG", "KUBERC", "PATH", "TMPDIR", "TZ", "GOMAXPROCS", "GOMEMLIMIT",
    }  # fmt: skip
    assert variables["HOME"] == variables["TMPDIR"] == folder
    assert variables["KUBECONFIG"] == f"{folder}/config"
    assert not Path(variables["PATH"]).exists()
    assert (mode, config_mode, files, config) == (0o700, 0o600, ["config"], "secret")
    assert leads, "a session of its own: no terminal, and one group to end"


async def test_limits_of_memory_processes_files_and_time(script: Script, runs: Path) -> None:
    heard = Heard()
    program = script(
        "import resource, json; print(json.dumps({n: resource.getrlimit(getattr(resource, n))"
        " for n in dir(resource) if n.startswith('RLIMIT_')}))"
    )
    await tried(program, runs, heard, seconds=60, memory=256 * MIB)
    limits = json.loads(heard.output)
    tasks = limits.pop("RLIMIT_NPROC")
    assert tasks[0] == tasks[1] > exec_process.TASKS
    expected = {
        "RLIMIT_AS": 256 * MIB + exec_process.ADDRESS_SPACE, "RLIMIT_DATA": 256 * MIB,
        "RLIMIT_NOFILE": exec_process.FILES, "RLIMIT_CPU": 61, "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": exec_process.FILE_BYTES,
    }  # fmt: skip
    assert {name: limits[name] for name in expected} == {
        name: [most, most] for name, most in expected.items()
    }


async def test_a_run_that_wants_all_memory_fails(script: Script, runs: Path) -> None:
    heard = Heard()
    ended = await tried(script("b = bytearray(300 << 20)"), runs, heard, memory=128 * MIB)
    assert ended.exit_code == 1
    assert b"MemoryError" in heard.said["stderr"]


@needs_landlock
async def test_it_reads_no_file_of_central_and_runs_no_other_program(
    script: Script, runs: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "central.db"
    secret.write_text("secret")
    heard = Heard()
    program = script(
        f"""
for attempt in (lambda: open({str(secret)!r}), lambda: os.listdir({str(tmp_path)!r}),
                lambda: open({str(secret)!r}, "w"), lambda: os.execv("/bin/sh", ["sh"])):
    try:
        attempt()
        print("done")
    except PermissionError:
        print("refused")
open("cache", "w").write("x")
print(open("cache").read())"""
    )
    await tried(program, runs, heard)
    assert heard.output.split() == ["refused"] * 4 + ["x"], heard.said["stderr"]
    assert secret.read_text() == "secret"


@needs_landlock
async def test_it_connects_to_central_s_own_port_only(script: Script, runs: Path) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with (
        await asyncio.start_server(hang_up, "127.0.0.1", 0) as own,
        await asyncio.start_server(hang_up, "127.0.0.1", 0) as other,
    ):
        ports = [server.sockets[0].getsockname()[1] for server in (own, other)]
        heard = Heard()
        program = script(
            f"""
import socket
for port in {ports}:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        print("connected")
    except PermissionError:
        print("refused")"""
        )
        await tried(program, runs, heard, port=ports[0])
    assert heard.output.split() == ["connected", "refused"], heard.said["stderr"]


async def test_after_its_time_it_is_ended_with_all_that_it_started(
    script: Script, runs: Path
) -> None:
    heard = Heard()
    program = script(
        "p = os.fork()\nif p: print(p, flush=True)\nimport time\nwhile True: time.sleep(60)"
    )
    ended = await tried(program, runs, heard, seconds=1.5)
    assert (ended.exit_code, ended.ending) == (exec_process.TIMED_OUT, "time_limit")
    await die(int(heard.output))


async def die(pid: int) -> None:
    """Wait for the end of a process that was killed; the test's own time limit ends this."""
    while not is_dead(pid):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def is_dead(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


async def test_output_beyond_the_limit_ends_it(script: Script, runs: Path) -> None:
    heard = Heard()
    program = script("while True: sys.stdout.write('x' * 1000); sys.stderr.write('y' * 1000)")
    ended = await tried(program, runs, heard, output=50_000)
    assert (ended.exit_code, ended.ending) == (exec_process.KILLED, "output_limit")
    assert len(heard.said["stdout"]) + len(heard.said["stderr"]) == ended.output_bytes == 50_000


async def test_output_of_just_the_limit_is_whole(script: Script, runs: Path) -> None:
    heard = Heard()
    ended = await tried(script("print('x' * 999)"), runs, heard, output=1000)
    assert (ended.exit_code, ended.ending, len(heard.output)) == (0, "exit", 1000)


async def test_it_ends_when_nobody_listens_any_more(script: Script, runs: Path) -> None:
    heard = Heard()
    heard.gone = True
    program = script("import time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(60)")
    with pytest.raises(Gone):
        await tried(program, runs, heard)
    assert not heard.output or is_dead(int(heard.output))


async def test_a_cancelled_request_ends_it(script: Script, runs: Path) -> None:
    heard = Heard()
    program = script("import time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(60)")
    running = asyncio.create_task(tried(program, runs, heard))
    await heard.something.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert is_dead(int(heard.output))


async def test_input_that_is_not_read_is_no_failure(script: Script, runs: Path) -> None:
    heard = Heard()
    ended = await tried(script("os.close(0); print(1)"), runs, heard, stdin=b"x" * MIB)
    assert (ended.exit_code, heard.output) == (0, "1\n")


async def test_a_signal_is_told_as_a_shell_tells_it(script: Script, runs: Path) -> None:
    heard = Heard()
    program = script(f"os.kill(os.getpid(), {int(signal.SIGTERM)})")
    assert (await tried(program, runs, heard)).exit_code == 128 + signal.SIGTERM


async def test_a_program_that_is_not_there_is_an_exit_code(runs: Path) -> None:
    heard = Heard()
    ended = await tried((runs.parent / "none",), runs, heard)
    assert ended.exit_code == 1
    assert b"No such file" in heard.said["stderr"]


async def test_a_folder_that_cannot_be_made_is_told(script: Script, tmp_path: Path) -> None:
    command, missing = Command([], {}), tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        await run(script(""), command, Heard(), Limits(5, 5, MIB), port=1, parent=missing)


# -- the child's own steps, in this process


def test_a_limit_is_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[Any, Any] = {}
    monkeypatch.setattr(exec_child.resource, "getrlimit", lambda kind: (5, 10))
    monkeypatch.setattr(exec_child.resource, "setrlimit", asked.__setitem__)
    exec_child.limit({"RLIMIT_NOFILE": 256, "RLIMIT_CORE": 0})
    assert asked == {
        exec_child.resource.RLIMIT_NOFILE: (10, 10), exec_child.resource.RLIMIT_CORE: (0, 0),
    }  # fmt: skip


def test_a_failed_system_call_is_an_error() -> None:
    exec_child.libc.syscall(exec_child.LANDLOCK_ADD_RULE, -1, 0, None, 0)
    with pytest.raises(OSError, match="Bad"):
        exec_child.check(-1)
    exec_child.check(0)


def test_the_child_dies_when_central_went_before_it_could_say_so() -> None:
    pid = os.fork()
    if pid == 0:
        exec_child.die_with(-1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_the_folder_of_a_run_is_private(runs: Path) -> None:
    folder = exec_process._make_folder(runs, {"config": b"x"})
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
