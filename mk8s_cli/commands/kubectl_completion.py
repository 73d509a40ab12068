"""TAB behind `mk8s k`: kubectl itself is asked, as its own completion scripts ask it.

Called by `main.py` when a shell completes. `kubectl __complete WORDS... BEGUN` prints one line of
value, tab and help for each suggestion, and last `:` and a number of bits (cobra's directives).
"""

import os
import shutil
import subprocess
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from mk8s_cli.commands import kubectl
from mk8s_cli.terminal.errors import CliError

SECONDS = 5.0
"""What a person who pressed TAB waits for a cluster that does not answer."""
_ERROR, _NO_FILES, _EXTENSIONS, _FOLDERS = 1, 4, 8, 16


def answer_shell(mk8s: click.Command, variable: str) -> str | None:
    """Return the lines for the shell; None where the words are no `mk8s k`.

    Args:
        mk8s: the whole program, which click wants to know.
        variable: what _MK8S_COMPLETE holds, as "bash_complete".
    """
    shell, _, kind = variable.partition("_")
    found = get_completion_class(shell) if kind == "complete" else None
    if found is None:
        return None
    completion: Any = found(mk8s, {}, "mk8s", "_MK8S_COMPLETE")
    words, begun = completion.get_completion_args()
    central, words = _central(words)
    if words[:1] not in (["k"], ["kubectl"]):
        return None
    words, begun, before = _joined(words[1:], begun, shell)
    items = suggestions(words, begun, central)
    for item in items:
        item.value = before + item.value
    return "\n".join(completion.format_completion(item) for item in items)


def suggestions(words: list[str], begun: str, central: str) -> list[CompletionItem[str]]:
    """Return what kubectl suggests for the word `begun` behind `words`; nothing if it fails."""
    program = shutil.which("kubectl")
    if program is None:
        return []
    environment = dict(os.environ)
    environment.pop("_MK8S_COMPLETE", None)
    try:
        words, kubeconfig = kubectl.prepared(words, central)
    except CliError:
        kubeconfig = ""  # its commands and flags can be told without a cluster
    if kubeconfig:
        environment["KUBECONFIG"] = kubeconfig
    try:
        done = subprocess.run(
            [program, "__complete", *words, begun],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return _items(done.stdout.decode("utf-8", "replace"), begun)


def _items(told: str, begun: str) -> list[CompletionItem[str]]:
    *lines, last = told.splitlines() or [""]
    if not last.startswith(":") or not last[1:].isdecimal():
        return []
    directive = int(last[1:])
    if directive & _ERROR:
        return []
    if directive & _FOLDERS:
        return [CompletionItem(begun, type="dir")]
    if directive & _EXTENSIONS or not (lines or directive & _NO_FILES):
        return [CompletionItem(begun, type="file")]
    pairs = (line.partition("\t") for line in lines if line.isprintable() or "\t" in line)
    return [
        CompletionItem(value, help=told or None)
        for value, _, told in pairs
        if value.startswith((begun, begun.rpartition("=")[2]))
    ]


def _central(words: list[str]) -> tuple[str, list[str]]:
    """Take `--central URL` of mk8s itself off the front; MK8S_CENTRAL says it, too."""
    if words[:1] == ["--central"]:
        return "".join(words[1:2]), words[2:]
    if words and words[0].startswith("--central="):
        return words[0].partition("=")[2], words[1:]
    return os.environ.get("MK8S_CENTRAL", ""), words


def _joined(words: list[str], begun: str, shell: str) -> tuple[list[str], str, str]:
    """Return the words as they were typed, the begun one, and what goes before a suggestion.

    bash takes words apart at "=" and wants what is behind it alone; the others want all of
    `--option=value`, of which kubectl tells the value.
    """
    whole: list[str] = []
    for word in [*words, begun]:
        is_value = whole and whole[-1].startswith("-") and whole[-1].endswith("=")
        if shell == "bash" and (is_value or (word.startswith("=") and whole)):
            whole[-1] += word
        else:
            whole.append(word)
    last = whole.pop()
    option, sign, _ = last.partition("=")
    before = option + sign if sign and last.startswith("-") and shell != "bash" else ""
    return whole, last, before
