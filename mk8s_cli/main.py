"""The entry of the `mk8s` program: a fast path for the exec plugin, then the commands.

Run by the `mk8s` script and by `python -m mk8s_cli`. kubectl runs `mk8s get-token` before every
command, so a cached token is printed before click or anything else from outside the standard
library is imported. Errors that a person can mend end here as one line; bugs keep their traceback.
"""

import errno
import gc
import os
import sys

from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.interpreter import leave, start_again_alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    import click

OK, FAILED, USAGE = 0, 1, 2
GC_THRESHOLD = 50_000
"""New objects before the collector looks for circles: more than any start makes."""
_NOT_A_BUG = frozenset({errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EIO})
"""What a disk or its rights can do to any file, those of the commands' own work included."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 1 refused or failed, 2 wrong usage.

    Without `arguments`, as the installed script calls it, it leaves the caller's Python environment
    and ends the process itself.
    """
    if arguments is not None:
        return _run(arguments)
    start_again_alone("mk8s_cli")
    return program()


def program() -> "NoReturn":
    """Run the program as the one thing that this process does, and end that."""
    gc.set_threshold(GC_THRESHOLD)
    try:
        code = _run(sys.argv[1:])
    except SystemExit as ended:  # of click's completion, and of what takes the place of exec
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code or OK
    leave(code)


def _run(words: list[str]) -> int:
    try:
        if _print_cached_token(words) or _print_completion(words):
            return OK
        return _run_command(words)
    except CliError as error:
        return _say(error)
    except BrokenPipeError:
        # The reader (head, less) went away; the interpreter must not fail on its last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        if error.errno not in _NOT_A_BUG:
            raise
        return _say(_trouble(error))
    except KeyboardInterrupt:
        print("mk8s: stopped", file=sys.stderr)
        return FAILED


def _print_cached_token(words: list[str]) -> bool:
    """Answer `get-token --cluster NAME` from the cache; False: the long way."""
    if words[:1] != ["get-token"]:
        return False
    from mk8s_cli.login import cached_token

    answer = cached_token.answer(words[1:])
    if answer:
        print(answer, flush=True)
    return bool(answer)


def _print_completion(words: list[str]) -> bool:
    """Answer TAB behind `mk8s use`, which people press most; False: click answers."""
    if words or "_MK8S_COMPLETE" not in os.environ:
        return False
    from mk8s_cli.kubeconfig import known_names
    from mk8s_cli.login import cached_token

    answer = known_names.answer_shell(cached_token.home_path())
    if answer:
        print(answer, flush=True)
    return answer is not None


def _run_command(words: list[str]) -> int:
    import click

    from mk8s_cli.command_table import mk8s

    variable = os.environ.get("_MK8S_COMPLETE", "")
    if variable.startswith("powershell"):
        import mk8s_cli.terminal.powershell  # noqa: F401  click finds it by its name then
    if variable and _print_kubectls_completion(mk8s, variable):
        return OK

    try:
        code = mk8s.main(args=words, prog_name="mk8s", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        error.show()
        return FAILED
    except click.Abort:
        print("mk8s: stopped", file=sys.stderr)
        return FAILED
    finally:
        _renew_kubeconfig()
    return code if isinstance(code, int) else OK


def _renew_kubeconfig() -> None:
    """Where the command learned that another authority vouches for a central, kubectl is told."""
    trusted = sys.modules.get("mk8s_cli.login.trusted")
    if trusted is not None and trusted.moved:
        from mk8s_cli.kubeconfig import contexts

        contexts.renew_trust()


def _print_kubectls_completion(mk8s: "click.Command", variable: str) -> bool:
    """Answer TAB behind `mk8s k`; False: click answers."""
    line = os.environ.get("COMP_WORDS", "")
    if not {"k", "kubectl"}.intersection(line.split()):
        return False
    from mk8s_cli.commands import kubectl_completion

    answer = kubectl_completion.answer_shell(mk8s, variable)
    if answer:
        print(answer)
    return answer is not None


def _trouble(error: OSError) -> CliError:
    where = f"{error.filename}: " if error.filename else ""
    return CliError(f"{where}{error.strerror}; check its permissions and the room on its disk")


def _say(error: CliError) -> int:
    from mk8s_cli.terminal.screen import one_line

    print(f"mk8s: {one_line(str(error))}", file=sys.stderr)
    return error.exit_code
