"""The YAML of roles and users as the CLI reads it: shape only, central judges the rules.

Called by `mk8s admin roles apply` and `mk8s admin apply`. The format is the one of
`mk8s-central init -f rbac.yaml`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mk8s_cli.central.api import Document, segment, text, texts
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.validation import EMAIL, ROLE_NAME


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """Roles (name to rules) and users (email to role names) of one file."""

    roles: dict[str, list[Any]]
    users: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between a file and central."""

    sign: str
    """+ for new, ~ for changed."""
    line: str
    """What changes, for people."""
    method: str
    path: str
    payload: Document


def load(path: Path) -> PolicyFile:
    """Return the content of a file; raise `CliError` that names file and field if it is malformed.

    A file may also hold a single role, as `mk8s admin roles get` prints it.
    """
    from mk8s_cli.terminal.yaml_text import MAX_BYTES, read_yaml

    try:
        with path.open("rb") as file:
            document = read_yaml(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except CliError as error:
        raise CliError(f"{path} is {error}") from error
    if isinstance(document, dict) and "name" in document:
        document = {"roles": [document]}
    if not isinstance(document, dict) or not document.keys() <= {"roles", "users"}:
        raise CliError(f"{path}: expected the keys roles and users")
    return PolicyFile(
        roles=dict(
            _role(item, f"{path}: {where}") for where, item in _listed(document, "roles", path)
        ),
        users=dict(
            _user(item, f"{path}: {where}") for where, item in _listed(document, "users", path)
        ),
    )


def differences(
    wanted: PolicyFile, roles: Sequence[Document], users: Sequence[Document]
) -> list[Change]:
    """Return what must change at central so that it holds everything in `wanted`.

    Roles come first, then those who become administrators: central does not let the last one go.
    Roles and users that the file does not name are left alone.
    """
    known_roles = {text(role, "name"): role.get("clusters") for role in roles}
    known_users = {text(user, "email").lower(): texts(user, "roles") for user in users}
    changes = [
        _role_change(name, rules, known_roles.get(name))
        for name, rules in wanted.roles.items()
        if known_roles.get(name) != rules
    ]
    changes += [
        _user_change(email, names, known_users.get(email))
        for email, names in sorted(wanted.users.items(), key=lambda user: "admin" not in user[1])
        if sorted(known_users.get(email, ())) != sorted(names) or email not in known_users
    ]
    return changes


def _role_change(name: str, rules: list[Any], before: object) -> Change:
    sign = "+" if before is None else "~"
    return Change(sign, f"role {name}", "PUT", f"/roles/{segment(name)}", {"clusters": rules})


def _user_change(email: str, names: tuple[str, ...], before: tuple[str, ...] | None) -> Change:
    after = ", ".join(names) or "none"
    if before is None:
        body: Document = {"email": email, "roles": list(names)}
        return Change("+", f"user {email} (roles: {after}; no password)", "POST", "/users", body)
    line = f"user {email} (roles: {', '.join(before) or 'none'} -> {after})"
    return Change("~", line, "PUT", f"/users/{segment(email)}/roles", {"roles": list(names)})


def _listed(document: Document, key: str, path: Path) -> list[tuple[str, Any]]:
    items = document.get(key) or []
    if not isinstance(items, list):
        raise CliError(f"{path}: {key} must be a list")
    return [(f"{key}[{index}]", item) for index, item in enumerate(items)]


def _role(item: Any, where: str) -> tuple[str, list[Any]]:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not ROLE_NAME.fullmatch(name):
        raise CliError(f"{where}.name must be a role name")
    unknown = item.keys() - {"name", "clusters", "built_in"}
    if unknown:
        raise CliError(f"{where}: unknown key {min(map(str, unknown))!a}")
    if not isinstance(item.get("clusters"), list):
        raise CliError(f"{where}.clusters must be a list of rules")
    return name, item["clusters"]


def _user(item: Any, where: str) -> tuple[str, tuple[str, ...]]:
    email = item.get("email") if isinstance(item, dict) else None
    if not isinstance(email, str) or not EMAIL.fullmatch(email):
        raise CliError(f"{where}.email must be an email address")
    unknown = item.keys() - {"email", "roles"}
    if unknown:
        raise CliError(f"{where}: unknown key {min(map(str, unknown))!a}")
    names = item.get("roles") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CliError(f"{where}.roles must be a list of role names")
    return email.lower(), tuple(names)
