"""Groups: roles for many at once. For admins.

A name without ":" is a group of mk8s, whose members are set here; `ISSUER:GROUP` is one that an
issuer names at a login, and can have roles alone. Either is made by the first `PUT`.
"""

from collections.abc import Awaitable

from mk8s_proxy.api import pages
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.group_schemas import (
    Group,
    GroupList,
    GroupMembersRequest,
    GroupQuery,
    GroupRolesRequest,
)
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.authz.policy import PolicyError, parse_group_name
from mk8s_proxy.db import groups
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.groups import GroupRecord


async def list_groups(call: Call) -> Model:
    """List groups with their roles and members."""
    is_named = pages.matcher(call.read_query(GroupQuery).name)
    found = [it for it in await groups.list_groups(call.context.database) if is_named(it.name)]
    shown, cursor = pages.cut(call, found, lambda group: (group.name,))
    return GroupList(groups=[_shown(group) for group in shown], next_cursor=cursor)


async def get_group(call: Call) -> Versioned:
    """Show one group."""
    return _versioned(await groups.get_group(call.context.database, call.path["name"]))


async def set_group_roles(call: Call) -> Versioned:
    """Replace the roles of a group, which is made if there is none."""
    name, wanted = _name_of(call), call.read(GroupRolesRequest).roles
    change = groups.put_group(call.context.database, name, roles=wanted, condition=call.condition)
    return await _changed(call, change, "roles")


async def set_group_members(call: Call) -> Versioned:
    """Replace the members of a group of mk8s, which is made if there is none."""
    name, wanted = _name_of(call), call.read(GroupMembersRequest).members
    if groups.is_issuers(name):
        raise ApiError.invalid("name", "who is in a group of an issuer is the issuer's word")
    change = groups.put_group(call.context.database, name, members=wanted, condition=call.condition)
    return await _changed(call, change, "members")


async def delete_group(call: Call) -> None:
    """Remove a group; its members lose the roles that it gave."""
    call.subject = call.path["name"][:256]
    await groups.delete_group(call.context.database, call.path["name"], call.condition)
    await call.context.policy_feed.refresh()


async def _changed(call: Call, change: Awaitable[GroupRecord], field: str) -> Versioned:
    """Make a change of a group; what does not exist is a mistake in this field of the body."""
    try:
        group = await change
    except NotFound as error:
        raise ApiError.invalid(field, str(error)) from None
    await call.context.policy_feed.refresh()
    return _versioned(group)


def _name_of(call: Call) -> str:
    call.subject = call.path["name"][:256]
    try:
        return parse_group_name(call.path["name"])
    except PolicyError as error:
        raise ApiError.invalid("name", error.problem) from None


def _versioned(group: GroupRecord) -> Versioned:
    return Versioned(_shown(group), group.revision)


def _shown(group: GroupRecord) -> Group:
    return Group(
        name=group.name,
        roles=list(group.roles),
        members=list(group.members),
        created_at=group.created_at,
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/groups",
        list_groups,
        "List groups",
        Access.ADMIN,
        query=GroupQuery,
        response=GroupList,
    ),
    Endpoint(
        "GET",
        "/groups/{name}",
        get_group,
        "Show one group",
        Access.ADMIN,
        response=Group,
        refusals=(404,),
    ),
    Endpoint(
        "PUT",
        "/groups/{name}/roles",
        set_group_roles,
        "Replace the roles of a group",
        Access.ADMIN,
        Audit.CHANGE,
        request=GroupRolesRequest,
        response=Group,
        conditional=True,
        refusals=(409,),
        verb="update",
        resource="groups",
    ),
    Endpoint(
        "PUT",
        "/groups/{name}/members",
        set_group_members,
        "Replace the members of a group of mk8s",
        Access.ADMIN,
        Audit.CHANGE,
        request=GroupMembersRequest,
        response=Group,
        conditional=True,
        refusals=(409,),
        verb="update",
        resource="groups",
    ),
    Endpoint(
        "DELETE",
        "/groups/{name}",
        delete_group,
        "Remove a group",
        Access.ADMIN,
        Audit.CHANGE,
        status=204,
        conditional=True,
        refusals=(404,),
        verb="delete",
        resource="groups",
    ),
)
