"""~/.mk8s/config.yaml: the centrals one has logged in to, and the current one. No secrets.

Called by every command but the cached path of `mk8s get-token`.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mk8s_cli.login import service_token
from mk8s_cli.login.token_cache import home_directory
from mk8s_cli.terminal import derived
from mk8s_cli.terminal.errors import CliError, NotLoggedIn
from mk8s_cli.terminal.private_files import ensure_directory, locked, read_private, write_private
from mk8s_cli.terminal.validation import LABEL, central_url

FILE_NAME = "config.yaml"
LOCK_SECONDS = 10.0
EXEC_VERSIONS = ("v1", "v1beta1")
PASSWORD, SINGLE_SIGN_ON, SERVICE_TOKEN, FEDERATION = "password", "sso", "service_token", "job"
SOURCES = (PASSWORD, SINGLE_SIGN_ON, SERVICE_TOKEN, FEDERATION)
JOB = "job"
"""Where a profile of a job has its secret: nowhere, the job gives a new one."""
_OPTIONS = {SERVICE_TOKEN: " --service-token", FEDERATION: " --federated"}
DERIVED_BEGIN = '{"central_url": "'
"""How the document begins where it is kept as JSON; `cached_token` reads that much of it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is remembered of one central."""

    central: str
    """https://host[:port], in the spelling of `validation.central_url`."""
    email: str = ""
    """Who is logged in; "" after a logout."""
    certificate_authority: str = ""
    """PEM of the authority pinned at login; "" means the ones this machine trusts."""
    secrets: str = "keyring"
    """Where the refresh token is: "keyring" or "file"."""
    cluster: str = ""
    """The cluster chosen last with `mk8s use`."""
    suffix: str = ""
    """What its contexts end with, to tell them from another central's: prod-SUFFIX; "" for none."""
    exec_version: str = ""
    """The version of kubeconfig entries that was asked for, "v1" or "v1beta1"; "" decides."""
    source: str = ""
    """By what one logged in last, one of `SOURCES`; "" if an older version did."""
    issuer: str = ""
    """The name of the issuer that one signed in at; "" for none."""
    job_token: str = ""
    """Where the token of the job is, as `job_token` says it."""
    audience: str = ""
    """What that token is asked for with."""

    @property
    def again(self) -> str:
        """What to type behind `mk8s login` for the same login."""
        return f"{self.central}{_OPTIONS.get(self.source, '')}" + (
            f" --issuer {self.issuer}" if self.issuer else ""
        )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    current: str = ""
    previous_context: str = ""
    """Where `mk8s use -` goes back to."""
    profiles: tuple[Profile, ...] = ()

    def profile(self, central: str) -> Profile | None:
        """Return what is remembered of `central`."""
        return next((known for known in self.profiles if known.central == central), None)

    def without(self, central: str) -> "Config":
        """Return a copy that has forgotten `central`; the first other login is the current one."""
        kept = tuple(known for known in self.profiles if known.central != central)
        first = next((known.central for known in kept if known.email), "")
        return replace(
            self, profiles=kept, current=first if self.current == central else self.current
        )

    def with_profile(self, profile: Profile) -> "Config":
        """Return a copy in which `profile` replaces the one of the same central, in its place."""
        kept = [profile if known.central == profile.central else known for known in self.profiles]
        if self.profile(profile.central) is None:
            kept.append(profile)
        return replace(self, profiles=tuple(kept))


def load() -> Config:
    """Return the configuration; no file is an empty one. Raises `CliError` if it is damaged."""
    if service_token.in_use() and not _has_file():
        return Config()
    path = home_directory() / FILE_NAME
    # The document itself is kept as JSON: YAML takes longer than all that a list does with it.
    kept, stamped = str(home_directory() / "derived" / "config.json"), derived.stamp([str(path)])
    content = read_private(path)  # asked first: only a file that is ours alone counts
    if content is None:
        return Config()
    try:
        made = derived.load(kept, stamped)
        if made and made.startswith(DERIVED_BEGIN):
            with suppress(ValueError, CliError):
                return _parse(json.loads(made))
        from mk8s_cli.terminal.yaml_text import read_yaml

        document = read_yaml(content)
        parsed = _parse(document)
    except CliError as error:
        reason = " ".join(str(error).split())
        raise CliError(f"{path} is damaged ({reason}); mend it, or delete it and log in") from error
    derived.save(kept, stamped, json.dumps(_document(parsed)))
    return parsed


def _has_file() -> bool:
    """Whether there is a configuration. A job may have no home, or one that leads nowhere."""
    try:
        return os.path.exists(home_directory() / FILE_NAME)  # noqa: PTH110  Path's raises
    except CliError:
        return False


def update(change: Callable[[Config], Config]) -> Config:
    """Apply `change` to the stored configuration under a lock, store the result and return it."""
    import yaml

    home = home_directory()
    ensure_directory(home)
    with locked(home / ".config.lock", LOCK_SECONDS):
        changed = change(load())
        document = yaml.safe_dump(_document(changed), sort_keys=False, allow_unicode=False)
        write_private(home / FILE_NAME, document.encode())
    return changed


def profile_for(central: str = "", *, logged_in: bool = True) -> Profile:
    """Return the profile of `central` ("" means the current one).

    A service token in the environment goes before all logins.

    Raises:
        NotLoggedIn: there is none, or nobody is logged in there while `logged_in` asks for it.
        CliError: there is a service token, and nothing says at which central.
    """
    if service_token.in_use():
        return _profile_of_job(central)
    config = load()
    wanted = central_url(central) if central else config.current
    profile = config.profile(wanted) if wanted else None
    if profile is None or (logged_in and not profile.email):
        raise NotLoggedIn(profile.again if profile else wanted or "URL")
    return profile


def _profile_of_job(central: str) -> Profile:
    """Return the profile of the service token in the environment."""
    stored = load()
    if not central and not stored.current:
        raise CliError(
            "there is a service token, and no central: set MK8S_CENTRAL=https://mk8s.example.com"
        )
    central = central_url(central or stored.current)
    known = stored.profile(central) or Profile(central)
    authority = _authority_of_job(central) or known.certificate_authority
    return replace(
        known,
        email="(service token)",
        secrets=service_token.ENVIRONMENT,
        certificate_authority=authority,
    )


def _authority_of_job(central: str) -> str:
    file, pin = (
        os.environ.get(name, "")
        for name in (service_token.AUTHORITY_FILE, service_token.AUTHORITY_PIN)
    )
    if not file and not pin:
        return ""
    from mk8s_cli.central import trust

    return trust.vouched_for(central, Path(file) if file else None, pin)


def _parse(document: Any) -> Config:
    if document is None:
        return Config()
    if not isinstance(document, dict) or not isinstance(document.get("centrals", []), list):
        raise CliError("it is not a mk8s configuration")
    parsed = Config(
        current=_string(document, "current"),
        previous_context=_string(document, "previous_context"),
        profiles=tuple(_profile(entry) for entry in document.get("centrals", [])),
    )
    if url := _string(document, "central_url"):
        parsed = replace(parsed, current=central_url(url))
    cluster = _string(document, "current_cluster")
    return _with_cluster(parsed, cluster) if cluster or url else parsed


def _with_cluster(parsed: Config, cluster: str) -> Config:
    """The current central, known or not yet, with the cluster that is chosen there."""
    if not parsed.current:
        raise CliError("current_cluster needs central_url beside it")
    if cluster and not LABEL.fullmatch(cluster):
        raise CliError("current_cluster is not a cluster's name")
    known = parsed.profile(parsed.current) or Profile(parsed.current)
    return parsed.with_profile(replace(known, cluster=cluster or known.cluster))


def _profile(entry: Any) -> Profile:
    if not isinstance(entry, dict):
        raise CliError("an entry of centrals is not a mapping")
    return Profile(
        central=central_url(_string(entry, "url")),
        email=_string(entry, "email"),
        certificate_authority=_string(entry, "certificate_authority"),
        secrets=_string(entry, "secrets") or "keyring",
        cluster=_string(entry, "cluster"),
        suffix=_label(entry, "suffix"),
        exec_version=_exec_version(entry),
        source=_source(entry),
        issuer=_label(entry, "issuer"),
        job_token=_string(entry, "job_token"),
        audience=_string(entry, "audience"),
    )


def _source(entry: dict[Any, Any]) -> str:
    source = _string(entry, "source")
    return source if source in SOURCES else ""


def _exec_version(entry: dict[Any, Any]) -> str:
    version = _string(entry, "exec_version")
    if version and version not in EXEC_VERSIONS:
        raise CliError(f"exec_version is not {' or '.join(EXEC_VERSIONS)}")
    return version


def _label(entry: dict[Any, Any], key: str) -> str:
    label = _string(entry, key)
    if label and not LABEL.fullmatch(label):
        raise CliError(f"{key} holds more than a-z, 0-9 and '-'")
    return label


def _string(entry: dict[Any, Any], key: str) -> str:
    value = entry.get(key) or ""
    if not isinstance(value, str):
        raise CliError(f"{key} is not text")
    return value


def _document(config: Config) -> dict[str, Any]:
    centrals = [
        {
            "url": profile.central,
            "email": profile.email,
            "secrets": profile.secrets,
            "cluster": profile.cluster,
            "suffix": profile.suffix,
            "exec_version": profile.exec_version,
            "source": profile.source,
            "issuer": profile.issuer,
            "job_token": profile.job_token,
            "audience": profile.audience,
            "certificate_authority": profile.certificate_authority,
        }
        for profile in config.profiles
    ]
    current = config.profile(config.current)
    return {
        "central_url": config.current,
        "current_cluster": current.cluster if current else "",
        "previous_context": config.previous_context,
        "centrals": [{key: value for key, value in entry.items() if value} for entry in centrals],
    }
