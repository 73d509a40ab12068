"""The answer to kubectl when the cache holds it: `mk8s get-token` before all else is imported.

Called by `main.py`. It reads what `token_cache` and `exec_versions` write, in just the form in
which they write it, and knows the questions that client-go asks, letter for letter. What looks
otherwise is left to those who check everything and say what is wrong: to the readers of these
files, or to the command. So this file may be simpler than they are, and never more lenient. Imports
what Python has loaded anyway.
"""

import os
import time

from mk8s_cli.central.access_token import is_fresh
from mk8s_cli.login import asked, exec_credential
from mk8s_cli.terminal import derived
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.private_files import read_private

_QUESTION = '{{"kind":"ExecCredential","apiVersion":"{}","spec":{{{}}}}}'
_QUESTIONS = {
    _QUESTION.format(version, spec): version
    for version in exec_credential.VERSIONS
    for spec in ("", '"interactive":false', '"interactive":true')
}
"""What client-go sends an entry that asks for no more: before 1.22 an empty spec, then one word."""

_NONE = ("", 0.0, 0.0)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def answer(words: list[str]) -> str:
    """Return what `get-token` with the arguments `words` prints; "" if it is not here.

    The cluster must be named: "" would be the token that is bound to none, which kubectl must never
    get. Without a central the current one is meant.
    """
    if os.environ.get("MK8S_TOKEN") or os.environ.get("MK8S_TOKEN_FILE"):
        return ""  # whose token that is, nobody has cached
    options, home = _options(words), home_path()
    form = options.get("-o", "credential")
    cluster = options.get("--cluster", "")
    if not home or not _is_plain(cluster, "-") or form not in {"credential", "token"}:
        return ""
    central = options.get("--central") or os.environ.get("MK8S_CENTRAL") or _current(home)
    host = central.removeprefix("https://").replace(":", "_")
    if not central.startswith("https://") or not _is_plain(host, "-._[]"):
        return ""
    token_file = f"{home}/cache/{host}/{cluster}.json"
    token, obtained, expires = _fresh(token_file)
    if not token or form == "token":
        return token
    if asked.is_doubted(token_file, obtained, os.getppid()):
        return ""
    version = _asked() or _noted(f"{home}/exec-versions/{host}", cluster)
    if not version:
        from mk8s_cli.login import exec_versions

        version = exec_versions.named_for(central, cluster)
    return exec_credential.answer(version, token, expires)


def _options(words: list[str]) -> dict[str, str]:
    """Read options that are each followed by their value; {} for anything else."""
    names = ["-o" if name == "--output" else name for name in words[::2]]
    is_known = len(words) % 2 == 0 and len(set(names)) == len(names)
    if not is_known or not {"--cluster", "--central", "-o"}.issuperset(names):
        return {}
    return dict(zip(names, words[1::2], strict=True))


def _current(home: str) -> str:
    """Return the current central from what `config` keeps, "" if that is not there or stale."""
    stamped = derived.stamp([f"{home}/config.yaml"])
    kept = derived.load(f"{home}/derived/config.json", stamped) or ""
    begin, _, rest = kept.partition('{"central_url": "')
    return "" if begin else rest.partition('"')[0]


def _is_plain(name: str, more: str) -> bool:
    """Whether `name` is one harmless name of a file: made of letters, digits and `more`."""
    return bool(name) and name[0] in f"{_LETTERS}[" and not name.strip(_LETTERS + more)


def home_path() -> str:
    """Return what `token_cache.home_directory` does, "" if there is none."""
    home = os.environ.get("MK8S_HOME", "")
    if home:
        return home
    user = os.path.expanduser("~")  # noqa: PTH111  pathlib takes as long as all the rest
    return f"{user}/.mk8s" if user != "~" else ""


def _asked() -> str:
    """Return the version that the caller asks for, "" if it does not say; may raise `CliError`."""
    question = os.environ.get("KUBERNETES_EXEC_INFO", "")
    if not question:
        return ""
    version = _QUESTIONS.get(question.rstrip("\n"), "")
    if not version:
        version = exec_credential.api_version(question)
    return version


def _noted(path: str, cluster: str) -> str:
    """Return the version that `exec_versions` noted for a cluster, the oldest without a note."""
    content = _read(path)
    if not content and not os.path.lexists(path):
        return exec_credential.KUBECONFIG_VERSION
    return next((it for it in exec_credential.VERSIONS if f'"{cluster}": "{it}"' in content), "")


def _fresh(path: str) -> tuple[str, float, float]:
    """Return a token that `token_cache` kept, when it came and its end; "" if it is not fresh."""
    begin, _, rest = _read(path).partition('{"token": "')
    token, _, rest = rest.partition('", "obtained": ')
    obtained, _, rest = rest.partition(', "expires": ')
    expires, _, end = rest.partition("}")
    if begin or end or not token or not exec_credential.is_simple(token):
        return _NONE
    try:
        span = float(obtained), float(expires)
    except ValueError:
        return _NONE
    return (token, *span) if is_fresh(*span, time.time()) else _NONE


def _read(path: str) -> str:
    try:
        return (read_private(path) or b"").decode("ascii")
    except (CliError, UnicodeDecodeError):
        return ""
