"""Bodies about roles and whole policy files, in the words of the policy language."""

from typing import Annotated, Any, Literal

from pydantic import Field

from mk8s_proxy.api.schemas import Model, Page


class RoleLimits(Model):
    """What whoever has the role may have open on one cluster; null where the settings say it."""

    streams: Annotated[int | None, Field(description="requests, watches included")] = None
    buffered: Annotated[str | None, Field(description='waiting bytes, such as "64Mi"')] = None


class Role(Model):
    """A role with its rules, as in the policy file."""

    name: str
    clusters: list[dict[str, Any]]
    limits: RoleLimits
    built_in: bool


class RoleRequest(Model):
    """The rules and limits that a role shall have."""

    clusters: Annotated[list[dict[str, Any]], Field(max_length=1000)]
    limits: RoleLimits = RoleLimits()


class RbacDocument(Model):
    """Roles, users and groups in the words of the policy file."""

    roles: list[dict[str, Any]]
    users: list[dict[str, Any]]
    groups: list[dict[str, Any]]


class RbacRequest(Model):
    """Roles, users and groups as the policy file has them; what it does not name stays."""

    roles: list[dict[str, Any]] = Field(default_factory=list, max_length=10_000)
    users: list[dict[str, Any]] = Field(default_factory=list, max_length=10_000)
    groups: list[dict[str, Any]] = Field(default_factory=list, max_length=10_000)
    dry_run: bool = False
    """Do all of it and undo it: the answer is the one that the change would get."""


class RbacChange(Model):
    """What became, or in a dry run would become, of one entry."""

    kind: Literal["role", "user", "group"]
    name: str
    action: Literal["created", "changed", "unchanged"]
    detail: str


class RbacChanges(Page):
    """All entries, in their order."""

    changes: list[RbacChange]
    dry_run: bool


_Dns = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


class ClusterRbacQuery(Model):
    """Whom the agent of the cluster is there."""

    agent_namespace: _Dns = "mk8s"
    agent_name: _Dns = "mk8s-agent"


class RbacNote(Model):
    """In what the RBAC of a cluster differs from a rule of a role."""

    role: str
    rule: Annotated[str, Field(description='such as "role developer, rule 2"')]
    kind: str
    text: str


class ClusterRbac(Model):
    """Objects of rbac.authorization.k8s.io, to be applied to the cluster."""

    cluster: str
    items: list[dict[str, Any]]
    notes: list[RbacNote]
