"""The names that `mk8s use` takes, as TAB needs them: at once.

Called by `main.py` before anything else is imported, and by the completion of arguments. The names
are those of our contexts and their clusters, made of the kubeconfig and of ~/.mk8s/config.yaml and
kept until one of these files changes (`terminal.derived`).
"""

import os

from mk8s_cli.terminal import derived

SHELLS = {"bash_complete": "plain,{}", "zsh_complete": "plain\n{}\n_", "fish_complete": "plain,{}"}
"""How click's script of each shell wants a name without help (click.shell_completion)."""
_TAKES_NAME = (["use"], ["clusters", "use"])
_ODD = "\"'\\#"


def answer_shell(home: str) -> str | None:
    """Return the lines for a shell that asks for the NAME of `mk8s use`; None: ask click.

    Args:
        home: the folder of the configuration, "" for none.
    """
    form = SHELLS.get(os.environ.get("_MK8S_COMPLETE", ""))
    line, place = (os.environ.get(name, "") for name in ("COMP_WORDS", "COMP_CWORD"))
    if form is None or not home or os.name == "nt" or any(it in line for it in _ODD):
        return None
    words = line.split()[1:]
    begun = ""
    if os.environ["_MK8S_COMPLETE"] == "fish_complete":
        begun = place
        words = words[:-1] if begun and words[-1:] == [begun] else words
    elif place.isdecimal():
        begun = "".join(words[int(place) - 1 : int(place)])
        words = words[: max(0, int(place) - 1)]
    if words not in _TAKES_NAME or begun.startswith("-"):
        return None
    names = load(home)
    if names is None:
        return None
    return "\n".join(form.format(name) for name in names if name.startswith(begun))


def load(home: str) -> list[str] | None:
    """Return the names that are kept, None if they have to be collected."""
    kept = derived.load(_file(home), stamp(home))
    return None if kept is None else kept.splitlines()


def save(home: str, stamped: str, names: list[str]) -> None:
    """Keep names that were collected from files that were in the state `stamped`."""
    derived.save(_file(home), stamped, "\n".join(names))


def stamp(home: str) -> str:
    """Return the state of all files that the names come from."""
    listed = [it for it in os.environ.get("KUBECONFIG", "").split(os.pathsep) if it]
    default = os.path.expanduser("~/.kube/config")  # noqa: PTH111
    return derived.stamp([*(listed or [default]), f"{home}/config.yaml"])


def _file(home: str) -> str:
    return f"{home}/derived/names"
