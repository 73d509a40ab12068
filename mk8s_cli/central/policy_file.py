"""The YAML of roles, users and groups as the CLI reads it: shape only, central judges the rules.

Called by `mk8s admin roles apply` and `mk8s admin apply`. The format is the one of
`mk8s-central init -f rbac.yaml`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mk8s_cli.central.api import Document
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.validation import EMAIL, GROUP_NAME, ROLE_NAME


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """Roles (name to rules and limits), users (email to role names) and groups of one file."""

    roles: dict[str, Document]
    """What central is told of each."""
    users: dict[str, tuple[str, ...]]
    groups: dict[str, Document]

    def document(self) -> Document:
        """Return what central takes as a whole."""
        return {
            "roles": [{"name": name, **role} for name, role in self.roles.items()],
            "users": [{"email": email, "roles": names} for email, names in self.users.items()],
        } | ({"groups": list(self.groups.values())} if self.groups else {})


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
    if not isinstance(document, dict) or not document.keys() <= {"roles", "users", "groups"}:
        raise CliError(f"{path}: expected the keys roles, users and groups")
    roles = [_role(item, f"{path}: {where}") for where, item in _listed(document, "roles", path)]
    users = [_user(item, f"{path}: {where}") for where, item in _listed(document, "users", path)]
    groups = [_group(item, f"{path}: {where}") for where, item in _listed(document, "groups", path)]
    for kind, entries in (("role", roles), ("user", users), ("group", groups)):
        names = [name for name, _ in entries]
        if len(set(names)) < len(names):
            twice = max(names, key=names.count)
            raise CliError(f"{path}: the {kind} {twice} is there twice")
    return PolicyFile(dict(roles), dict(users), dict(groups))


def limits_of(role: Document) -> Document:
    """What a role limits, as in a file: without what it leaves to central's settings."""
    limits = role.get("limits")
    if not isinstance(limits, dict):
        return {}
    return {key: value for key, value in limits.items() if value is not None}


def _body(rules: object, role: Document) -> Document:
    limits = limits_of(role)
    return {"clusters": rules, "limits": limits} if limits else {"clusters": rules}


def _listed(document: Document, key: str, path: Path) -> list[tuple[str, Any]]:
    items = document.get(key) or []
    if not isinstance(items, list):
        raise CliError(f"{path}: {key} must be a list")
    return [(f"{key}[{index}]", item) for index, item in enumerate(items)]


def _role(item: Any, where: str) -> tuple[str, Document]:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not ROLE_NAME.fullmatch(name):
        raise CliError(f"{where}.name must be a role name")
    unknown = item.keys() - {"name", "clusters", "limits", "built_in"}
    if unknown:
        raise CliError(f"{where}: unknown key {min(map(str, unknown))!a}")
    if not isinstance(item.get("clusters"), list):
        raise CliError(f"{where}.clusters must be a list of rules")
    if not isinstance(item.get("limits", {}), dict):
        raise CliError(f"{where}.limits must be a mapping")
    return name, _body(item["clusters"], item)


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


def _group(item: Any, where: str) -> tuple[str, Document]:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or not GROUP_NAME.fullmatch(name):
        raise CliError(f"{where}.name must be a group's name")
    unknown = item.keys() - {"name", "roles", "members"}
    if unknown:
        raise CliError(f"{where}: unknown key {min(map(str, unknown))!a}")
    for key in ("roles", "members"):
        names = item.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CliError(f"{where}.{key} must be a list of names")
    return name, {"roles": [], **item}
