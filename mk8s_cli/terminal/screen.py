"""What reaches the terminal: escaping, one-line warnings, questions.

Called by every command. Attack E9: text from the network may hold escape sequences, line feeds or
direction marks that rewrite what a person sees; nothing of it is printed raw.
"""

import sys

from mk8s_cli.terminal.errors import CliError

MAX_LINE = 2000
"""Longest error text of a stranger that is worth printing, in characters."""


def escape(text: str) -> str:
    """Return `text` with control, format and separator characters made visible as escapes."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    """Return `text` escaped, on one line, at most `MAX_LINE` characters long."""
    return escape(" ".join(text.split()))[:MAX_LINE]


def warn(message: str) -> None:
    """Print one warning line on stderr."""
    print(f"mk8s: warning: {one_line(message)}", file=sys.stderr)


def note(message: str) -> None:
    """Print one line on stderr that is no trouble, only worth knowing."""
    print(f"mk8s: {one_line(message)}", file=sys.stderr)


def is_interactive() -> bool:
    """Whether a person can answer a question: stdin and stderr are terminals."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str) -> str:
    """Return the line typed after `question`; raise `CliError` when nobody can answer."""
    if not is_interactive():
        raise CliError(f"there is no terminal to ask for: {question}")
    print(f"{question}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def confirm(question: str) -> bool:
    """Ask for yes or no; anything but a clear yes is no."""
    return ask(f"{question} [y/N]").lower() in {"y", "yes"}


def read_password(prompt: str, *, from_stdin: bool, twice: bool = False) -> str:
    """Return a password from the first line of stdin, or from a prompt that shows nothing.

    Raises:
        CliError: it is empty, the two entries differ, or there is no terminal to ask at.
    """
    if from_stdin:
        password = sys.stdin.readline(4096).rstrip("\r\n")
    elif is_interactive():
        password = _prompt_password(prompt, twice=twice)
    else:
        raise CliError("there is no terminal to ask for the password; use --password-stdin")
    if not password:
        raise CliError("the password is empty")
    return password


def _prompt_password(prompt: str, *, twice: bool) -> str:
    import getpass

    password = getpass.getpass(f"{prompt}: ", stream=sys.stderr)
    if twice and getpass.getpass("again: ", stream=sys.stderr) != password:
        raise CliError("the two passwords differ; nothing was changed")
    return password
