"""The entry of the `mk8s` program: a fast path for the exec plugin, then the commands.

Run by the `mk8s` script and by `python -m mk8s_cli`. kubectl runs `mk8s get-token` before every
command, so a cached token is printed before click or anything else from outside the standard
library is imported. Errors that a person can mend end here as one line; bugs keep their traceback.
"""

import errno
import os
import sys

from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.interpreter import start_again_alone

OK, FAILED, USAGE = 0, 1, 2
_NOT_A_BUG = frozenset({errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EIO})
"""What a disk or its rights can do to any file, those of the commands' own work included."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code: 0 done, 1 refused or failed, 2 wrong usage.

    Without `arguments`, as the installed script calls it, the caller's Python environment is left.
    """
    if arguments is None:
        start_again_alone()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if _print_cached_token(words):
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
    """Answer `get-token --cluster NAME --central URL` from the cache; False: the long way."""
    if (
        len(words) != 5
        or words[0] != "get-token"
        or {words[1], words[3]}
        != {
            "--cluster",
            "--central",
        }
    ):
        return False
    from mk8s_cli.login import exec_credential, exec_versions, token_cache

    options = {words[1]: words[2], words[3]: words[4]}
    if not options["--cluster"]:
        # "" would be the token that is bound to no cluster; kubectl must never get that one.
        return False
    info = os.environ.get("KUBERNETES_EXEC_INFO", "")
    version = exec_credential.api_version(info) if info else ""
    place = options["--central"], options["--cluster"]
    cached = token_cache.load(*place)
    if cached is None or token_cache.is_doubted(*place, cached, os.getppid()):
        return False
    version = version or exec_versions.named_for(*place)
    print(exec_credential.answer(version, cached.token, cached.expires), flush=True)
    return True


def _run_command(words: list[str]) -> int:
    import click

    from mk8s_cli.command_table import mk8s

    if os.environ.get("_MK8S_COMPLETE", "").startswith("powershell"):
        import mk8s_cli.terminal.powershell  # noqa: F401  click finds it by its name then

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
    return code if isinstance(code, int) else OK


def _trouble(error: OSError) -> CliError:
    where = f"{error.filename}: " if error.filename else ""
    return CliError(f"{where}{error.strerror}; check its permissions and the room on its disk")


def _say(error: CliError) -> int:
    from mk8s_cli.terminal.screen import one_line

    print(f"mk8s: {one_line(str(error))}", file=sys.stderr)
    return error.exit_code
