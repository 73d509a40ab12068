"""The token by which a job says who it is: of GitHub Actions, GitLab CI, a pod, or a file.

Called by the login and, for the next access token, by `access_tokens`. Where it is from is one word
that the configuration keeps: "github", "env:NAME" or "file:PATH". The token itself is kept nowhere.
"""

import base64
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from mk8s_cli.central.api import Central
from mk8s_cli.terminal.errors import CliError, Refused

GITHUB, VARIABLE, FILE = "github", "env:", "file:"
GITHUB_URL, GITHUB_SECRET = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
GITLAB_VARIABLE = "MK8S_ID_TOKEN"
POD_FILE = Path("/var/run/secrets/tokens/mk8s")
LONGEST = 16384
_OWN = re.compile(r"mk8s([._:/-][A-Za-z0-9._:/-]*)?")
"""What no other service is called."""
_LONGEST_TOLD = 200
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_NOWHERE = (
    "no token of a job is here: give a GitHub job `permissions: id-token: write`, a GitLab job "
    f"{GITLAB_VARIABLE} in `id_tokens`, a pod a projected token at {POD_FILE}, "
    "or name one with --token-file"
)


def find(file: Path | None, variable: str) -> str:
    """Return where the token of this job is: in what was named, or where it is usual.

    Raises:
        CliError: there is none.
    """
    if file is not None:
        return f"{FILE}{file.absolute()}"
    if variable:
        return f"{VARIABLE}{variable}"
    if os.environ.get(GITHUB_URL) and os.environ.get(GITHUB_SECRET):
        return GITHUB
    if os.environ.get(GITLAB_VARIABLE):
        return f"{VARIABLE}{GITLAB_VARIABLE}"
    if POD_FILE.exists():
        return f"{FILE}{POD_FILE}"
    raise CliError(_NOWHERE)


def audience_of(federation: Mapping[str, str], central: str) -> str:
    """Return the audience to ask GitHub for, of those that central names.

    A token for whatever central says would let it act for the job elsewhere, such as at a cloud: so
    only what is plainly its own is taken from it, and all else is for the job to name.

    Raises:
        CliError: it names none, several of which none is GitHub's by its name, or another's.
    """
    audience = _named(federation)
    own = (central, urlsplit(central).netloc, urlsplit(central).hostname)
    if audience not in own and not _OWN.fullmatch(audience):
        raise CliError(
            f"central asks for a token for {audience[:_LONGEST_TOLD]!a}, which may be somebody "
            "else's: if it is central's, name it with --audience"
        )
    return audience


def _named(federation: Mapping[str, str]) -> str:
    audiences = set(federation.values()) - {""}
    if len(audiences) == 1:
        return audiences.pop()
    if federation.get(GITHUB):
        return federation[GITHUB]
    if not audiences:
        raise CliError("central trusts no issuer of jobs: an administrator sets login.federation")
    raise CliError(f"central trusts several issuers: add --audience ({', '.join(federation)})")


def read(source: str, audience: str) -> str:
    """Return the token as it is now.

    Raises:
        CliError: it is not there any more, has ended, or is no token.
    """
    if source == GITHUB:
        token = _of_github(audience)
    elif source.startswith(VARIABLE):
        token = os.environ.get(source.removeprefix(VARIABLE), "").strip()
    else:
        token = _of_file(Path(source.removeprefix(FILE)))
    where = _told(source)
    if not token:
        raise CliError(f"{where} holds no token")
    if len(token) > LONGEST or not _FORM.fullmatch(token):
        raise CliError(f"{where} holds no token of an issuer (a JWT)")
    if _ends(token) <= time.time():
        raise CliError(f"the token in {where} has ended: the job needs a new one")
    return token


def _told(source: str) -> str:
    """Return where it is from, for people."""
    if source == GITHUB:
        return "GitHub's answer"
    return source.removeprefix(VARIABLE).removeprefix(FILE)


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 2)
    except OSError as error:
        raise CliError(f"cannot read the job's token in {path}: {error.strerror}") from error
    return content.decode("ascii", "replace").strip()


def _of_github(audience: str) -> str:
    """Ask GitHub, as its own toolkit does, for a token that names the audience."""
    from mk8s_cli.central.transport import Transport, trusting

    url, secret = os.environ.get(GITHUB_URL, ""), os.environ.get(GITHUB_SECRET, "")
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.netloc or "@" in parts.netloc or not secret:
        raise CliError(f"GitHub offers this job no token ({GITHUB_URL} and {GITHUB_SECRET})")
    query = f"{parts.query}&" if parts.query else ""
    path = f"{parts.path}?{query}audience={quote(audience, safe='')}"
    github = Central(Transport(f"https://{parts.netloc}", trusting(), quiet=True), secret)
    try:
        value = github.call("GET", path).get("value")
    except Refused as refused:
        raise CliError(f"GitHub gives this job no token: {refused}") from refused
    except CliError as error:
        told = str(error).replace("central", "GitHub")
        raise CliError(f"GitHub gives this job no token: {told}") from error
    return value if isinstance(value, str) else ""


def _ends(token: str) -> float:
    """Return when a token says that it ends, for a clear line; who believes it is central."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
