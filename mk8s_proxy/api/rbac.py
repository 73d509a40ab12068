"""Roles, users and groups of a whole policy file: changed together or not at all. For admins."""

from mk8s_proxy.api import policy_schemas
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.authz.policy import BUILT_IN_ROLES, PolicyError, RbacDocument, parse_rbac
from mk8s_proxy.db import roles
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.rbac import WantedGroup, WantedRole, WantedUser, apply_rbac, read_rbac


async def get_rbac(call: Call) -> Versioned:
    """Show all roles, users and groups as a policy file says them; built-in roles are left out."""
    stored = await read_rbac(call.context.database)
    document = policy_schemas.RbacDocument(
        roles=[
            {"name": it.name, "clusters": it.rules} | ({"limits": it.limits} if it.limits else {})
            for it in stored.roles
        ],
        users=[
            {"email": it.email, "roles": list(it.roles)} | ({"name": it.name} if it.name else {})
            for it in stored.users
        ],
        groups=[
            {"name": it.name, "roles": list(it.roles)}
            | ({} if it.members is None else {"members": list(it.members)})
            for it in stored.groups
        ],
    )
    return Versioned(document, stored.revision)


async def apply(call: Call) -> Model:
    """Bring roles, users and groups into the database, or with `dry_run` say what that would do."""
    body, context = call.read(policy_schemas.RbacRequest), call.context
    document = await _parsed(call, body)
    names = [role.name for role in document.roles] + [user.email for user in document.users]
    names += [group.name for group in document.groups]
    call.subject = ", ".join(names)[:256]
    try:
        changes = await apply_rbac(
            context.database,
            [WantedRole(it.name, it.document(), it.limits.document()) for it in document.roles],
            [WantedUser(user.email, user.roles, user.name) for user in document.users],
            [WantedGroup(it.name, it.roles, it.members) for it in document.groups],
            dry_run=body.dry_run,
            condition=call.condition,
        )
    except NotFound as error:  # a member whom nobody knows, a role that was removed a moment ago
        field = "groups" if error.kind == "user" else "users"
        raise ApiError.invalid(field, str(error)) from None
    await context.policy_feed.refresh()
    told = [
        policy_schemas.RbacChange(kind=it.kind, name=it.name, action=it.action, detail=it.detail)
        for it in changes
    ]
    return policy_schemas.RbacChanges(changes=told, dry_run=body.dry_run)


async def _parsed(call: Call, body: policy_schemas.RbacRequest) -> RbacDocument:
    """Read the entries as `mk8s-central init -f` reads its file."""
    known = [role.name for role in await roles.list_roles(call.context.database)]
    try:
        return parse_rbac(
            {"roles": body.roles, "users": body.users, "groups": body.groups},
            known_roles={*BUILT_IN_ROLES, *known},
        )
    except PolicyError as error:
        raise ApiError.invalid(error.place, error.problem) from None


ENDPOINTS = (
    Endpoint(
        "GET",
        "/rbac",
        get_rbac,
        "Show all roles, users and groups as a policy file",
        Access.ADMIN,
        response=policy_schemas.RbacDocument,
    ),
    Endpoint(
        "POST",
        "/rbac",
        apply,
        "Change roles, users and groups together, or try it",
        Access.ADMIN,
        Audit.CHANGE,
        request=policy_schemas.RbacRequest,
        response=policy_schemas.RbacChanges,
        conditional=True,
        refusals=(409,),
        verb="update",
        resource="roles",
    ),
)
