"""The RBAC file: roles, users and groups in YAML, read, checked and brought into the database.

Called by ``mk8s-central init -f``. Applying a file twice changes nothing the second time.
"""

from pathlib import Path

from mk8s_agent.wire.yaml_file import YamlFileError, read_yaml
from mk8s_proxy.authz.policy import BUILT_IN_ROLES, PolicyError, RbacDocument, parse_rbac
from mk8s_proxy.db import roles as role_store
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.rbac import Change, WantedGroup, WantedRole, WantedUser, apply_rbac


class RbacFileError(Exception):
    """The file cannot be used; the message is one line: "file:line: place: what to do"."""


async def load_file(database: Database, path: Path) -> RbacDocument:
    """Read and check a file whose users and groups may have the roles of the database, too.

    Raises:
        RbacFileError: the file is unreadable or has a mistake.
        StoreError: the database does not answer.
    """
    stored = [role.name for role in await role_store.list_roles(database)]
    return read_rbac(path, known_roles=stored)


async def apply_document(
    database: Database, document: RbacDocument, *, dry_run: bool = False
) -> list[Change]:
    """Bring what a file says into the database: all of it, or nothing.

    Users that it creates have no password; an admin sets one.

    Raises:
        StoreError: it contradicts what is stored (a built-in role, the last admin).
    """
    wanted_roles = [
        WantedRole(role.name, role.document(), role.limits.document()) for role in document.roles
    ]
    wanted_users = [WantedUser(user.email, user.roles, user.name) for user in document.users]
    wanted_groups = [WantedGroup(it.name, it.roles, it.members) for it in document.groups]
    return await apply_rbac(database, wanted_roles, wanted_users, wanted_groups, dry_run=dry_run)


def read_rbac(path: Path, *, known_roles: list[str] | None = None) -> RbacDocument:
    """Read and check a file without a database.

    Args:
        path: the YAML file.
        known_roles: roles that may be given beside the built-in ones and the file's own.

    Raises:
        RbacFileError: the file is unreadable or has a mistake.
    """
    try:
        document = read_yaml(path)
    except YamlFileError as error:
        raise RbacFileError(str(error)) from error
    value = {} if document.value is None else document.value
    try:
        return parse_rbac(value, known_roles={*BUILT_IN_ROLES, *(known_roles or ())})
    except PolicyError as error:
        raise RbacFileError(f"{document.where(error.place)}: {error}") from error


def summary(changes: list[Change]) -> list[str]:
    """What to tell the operator: one line for each change, one for all that stayed."""
    lines = [str(change) for change in changes if change.action != "unchanged"]
    same = len(changes) - len(lines)
    return [*lines, f"{same} unchanged"] if same else lines
