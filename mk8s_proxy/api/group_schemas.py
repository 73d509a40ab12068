"""Bodies of the endpoints for groups. See `schemas`, of which this is a part."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from mk8s_proxy.api.list_schemas import NextCursor, PageQuery, Pattern
from mk8s_proxy.api.schemas import Email, Model, Page, RoleNames


class GroupQuery(PageQuery):
    """Which groups are wanted."""

    name: Pattern | None = None


class Group(Model):
    """A group that roles are given to."""

    name: Annotated[str, Field(description='with ":" for one of an issuer, as in acme:devs')]
    roles: list[str]
    members: Annotated[
        list[str], Field(description="email addresses; an issuer says at each login who is in its")
    ]
    created_at: datetime


class GroupList(Page):
    """Groups, by name."""

    groups: list[Group]
    next_cursor: NextCursor


class GroupRolesRequest(Model):
    """The roles that a group shall have; others are taken away."""

    roles: RoleNames


class GroupMembersRequest(Model):
    """Who shall be in a group of mk8s; others leave it."""

    members: Annotated[list[Email], Field(max_length=10_000)]
