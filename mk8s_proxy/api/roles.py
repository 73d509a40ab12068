"""Roles: what users may do on which clusters, in the words of the policy file. For admins."""

from mk8s_proxy.api import pages, policy_schemas, schemas
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.list_schemas import RoleList, RoleQuery
from mk8s_proxy.authz.policy import PolicyError, parse_role
from mk8s_proxy.db import roles
from mk8s_proxy.db.roles import RoleRecord


async def list_roles(call: Call) -> schemas.Model:
    """List roles with their rules."""
    is_named = pages.matcher(call.read_query(RoleQuery).name)
    found = [it for it in await roles.list_roles(call.context.database) if is_named(it.name)]
    shown, cursor = pages.cut(call, found, lambda role: (role.name,))
    return RoleList(roles=[_shown(role) for role in shown], next_cursor=cursor)


async def get_role(call: Call) -> Versioned:
    """Show one role."""
    return _versioned(await roles.get_role(call.context.database, call.path["name"]))


async def put_role(call: Call) -> Versioned:
    """Make a role or replace its rules and limits, after the same checks as of the policy file."""
    call.subject = call.path["name"][:256]
    wanted = call.read(policy_schemas.RoleRequest)
    rules = list(wanted.clusters)
    limits = wanted.limits.model_dump(exclude_none=True)
    try:
        limits = parse_role(call.path["name"], rules, limits).limits.document()
    except PolicyError as error:
        raise ApiError.invalid(error.place, error.problem) from None
    role = await roles.put_role(
        call.context.database, call.path["name"], rules, limits, condition=call.condition
    )
    await call.context.policy_feed.refresh()
    return _versioned(role)


async def delete_role(call: Call) -> None:
    """Remove a role that nobody has."""
    call.subject = call.path["name"][:256]
    await roles.delete_role(call.context.database, call.path["name"], call.condition)
    await call.context.policy_feed.refresh()


def _versioned(role: RoleRecord) -> Versioned:
    return Versioned(_shown(role), role.revision)


def _shown(role: RoleRecord) -> policy_schemas.Role:
    limits = policy_schemas.RoleLimits(**role.limits)
    return policy_schemas.Role(
        name=role.name, clusters=role.rules, limits=limits, built_in=role.built_in
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/roles",
        list_roles,
        "List roles",
        Access.ADMIN,
        query=RoleQuery,
        response=RoleList,
    ),
    Endpoint(
        "GET",
        "/roles/{name}",
        get_role,
        "Show one role",
        Access.ADMIN,
        response=policy_schemas.Role,
        refusals=(404,),
    ),
    Endpoint(
        "PUT",
        "/roles/{name}",
        put_role,
        "Make a role or replace its rules",
        Access.ADMIN,
        Audit.CHANGE,
        request=policy_schemas.RoleRequest,
        response=policy_schemas.Role,
        conditional=True,
        refusals=(409,),
        verb="update",
        resource="roles",
    ),
    Endpoint(
        "DELETE",
        "/roles/{name}",
        delete_role,
        "Remove a role that nobody has",
        Access.ADMIN,
        Audit.CHANGE,
        status=204,
        conditional=True,
        refusals=(404, 409),
        verb="delete",
        resource="roles",
    ),
)
