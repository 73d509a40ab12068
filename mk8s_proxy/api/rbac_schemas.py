"""The bodies of `POST /rbac`, apart from `schemas` because they are about a whole file.

Read by `rbac`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from mk8s_proxy.api.schemas import Model


class RbacRequest(Model):
    """Roles and users in the words of the policy file; what it does not name stays as it is."""

    roles: Annotated[list[dict[str, Any]], Field(default_factory=list, max_length=10_000)]
    users: Annotated[list[dict[str, Any]], Field(default_factory=list, max_length=10_000)]
    dry_run: bool = False
    """Do all of it and undo it: the answer is the one that the change would get."""


class RbacChange(Model):
    """What became, or in a dry run would become, of one entry."""

    kind: Literal["role", "user"]
    name: str
    action: Literal["created", "changed", "unchanged"]
    detail: str


class RbacChanges(Model):
    """All entries, in their order."""

    items: list[RbacChange]
    dry_run: bool
