"""Which Python environment this program runs in: its own, whatever its caller has set up.

kubectl runs the credential plugin inside whatever shell it was started from: another project's
virtual environment, a PYTHONPATH full of modules that are called like ours, a folder with a
`yaml.py`. Called first by each installed script, and by the writer of kubeconfig entries. Imports
what is frozen into Python.

The CLI and the agent's side share no code, so there are two copies of this file: in
`mk8s_cli.terminal` and in `mk8s_agent.wire`, which serves central too. A test keeps them equal.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

WINDOWS = os.name == "nt"
ALONE = ("-E", "-P")
"""No variable of Python's is read, and neither the current nor the script's folder is searched.
Not `-I`, which would also hide the packages of `pip install --user`."""

_CHANGES_WHAT_RUNS = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONWARNINGS",
    "PYTHONDEVMODE",
    "PYTHONOPTIMIZE",
    "PYTHONVERBOSE",
    "PYTHONPROFILEIMPORTTIME",
)


def _home() -> str:
    """The folder that our packages are in."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120


def lives_in_python_path() -> bool:
    """Whether PYTHONPATH alone is how this very program is found (`pip install --target`)."""
    home = _home()
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = any(entry and os.path.abspath(entry) == home for entry in entries)  # noqa: PTH100
    return named and not _is_installed(home)


def _is_installed(home: str) -> bool:
    """Whether Python finds the package in `home` by itself, editable installations included."""
    import site
    from importlib.machinery import PathFinder

    if home in (*site.getsitepackages(), site.getusersitepackages()):
        return True
    package = __name__.partition(".")[0]
    editable = (finder for finder in sys.meta_path if finder is not PathFinder)
    return any(finder.find_spec(package, None) is not None for finder in editable)


def start_again_alone(package: str) -> None:
    """Become the same program without the caller's Python environment, where there is one.

    Called first thing by the installed script of `package`; costs one more start of Python, and
    only then. Without one, it is enough not to look for modules beside the script.
    """
    if sys.flags.ignore_environment or not sys.executable or lives_in_python_path():
        return
    if not any(os.environ.get(name) for name in _CHANGES_WHAT_RUNS):
        _leave_folder_of_script()
        return
    command = [sys.executable, *ALONE, *_script(package), *sys.argv[1:]]
    become(sys.executable, command)


def _leave_folder_of_script() -> None:
    """Take out what Python puts first in the path of a script: /usr/local/bin may hold anything."""
    folder = os.path.dirname(os.path.realpath(sys.argv[0]))  # noqa: PTH120
    if sys.path[:1] == [folder] and folder != _home():
        del sys.path[0]


def become(program: str, command: list[str]) -> "NoReturn":
    """Turn this process into `program`, so that signals, terminal and exit code are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    if WINDOWS:
        # There exec would return to the shell at once, while the new program is still running.
        import subprocess

        raise SystemExit(subprocess.call(command, executable=program))
    os.execv(program, command)  # noqa: S606  to become that program is what this is for


def leave(code: int) -> "NoReturn":
    """End this process at once, when it has nothing left to do but to print what it has said.

    What mypy does, too: to take all objects apart one by one takes as long as to read a command.
    What is registered to be done at the end is done; an output that cannot be written is a failure.
    """
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def _script(package: str) -> tuple[str, ...]:
    """The script by its path, so that messages and completion name it; on Windows it is no file."""
    if not WINDOWS and os.path.isfile(sys.argv[0]):  # noqa: PTH113
        return (sys.argv[0],)
    return ("-m", package)
