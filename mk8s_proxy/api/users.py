"""Users: who may log in, with what roles. For admins.

`{id}` in a path is the id, the email address or the name. The last admin cannot be removed, locked
out or deprived of the role; the store sees to that in the same transaction.
"""

from mk8s_proxy.api import pages, schemas
from mk8s_proxy.api.conditions import Versioned
from mk8s_proxy.api.endings import end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.errors import ApiError
from mk8s_proxy.api.list_schemas import UserList, UserQuery
from mk8s_proxy.db import service_tokens, users
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.db.users import UserRecord, UserSearch


async def list_users(call: Call) -> schemas.Model:
    """List users."""
    asked, after = call.read_query(UserQuery), pages.place_of(call)
    found = await users.find_users(
        call.context.database,
        UserSearch(
            name=asked.name,
            role=asked.role,
            disabled=None if asked.status is None else asked.status == "disabled",
            after=str(after[0]) if after else "",
            limit=pages.page_size(call) + 1,
        ),
    )
    shown, cursor = pages.page(call, found, lambda user: (user.email,))
    return UserList(users=[_shown(user) for user in shown], next_cursor=cursor)


async def get_user(call: Call) -> Versioned:
    """Show one user."""
    return _versioned(await _named(call))


async def create_user(call: Call) -> Versioned:
    """Make a user."""
    body, context = call.read(schemas.CreateUserRequest), call.context
    call.subject = body.email
    password_hash = None
    if body.password is not None:
        password_hash = await context.passwords.hash(body.password)
    try:
        user = await users.create_user(
            context.database,
            body.email,
            body.name,
            password_hash,
            body.roles,
            must_change=body.must_change_password and password_hash is not None,
        )
    except NotFound as error:
        raise ApiError.invalid("roles", str(error)) from None
    await context.policy_feed.refresh()
    return _versioned(user)


async def set_roles(call: Call) -> Versioned:
    """Replace the roles of a user."""
    body, context = call.read(schemas.UserRolesRequest), call.context
    found = await _named(call)
    try:
        user = await users.set_roles(context.database, found.id, body.roles, call.condition)
    except NotFound as error:
        if error.kind != "role":
            raise
        raise ApiError.invalid("roles", str(error)) from None
    await context.policy_feed.refresh()
    return _versioned(user)


async def set_password(call: Call) -> None:
    """Give a user a new password and end all logins made with the old one."""
    body, context = call.read(schemas.PasswordRequest), call.context
    found = await _named(call)
    password_hash = await context.passwords.hash(body.password)
    await users.set_password(
        context.database,
        found.id,
        password_hash,
        call.condition,
        must_change=body.must_change_password,
    )
    await context.policy_feed.refresh()


async def set_disabled(call: Call) -> Versioned:
    """Lock a user out at once, or let the user in again."""
    body, context = call.read(schemas.DisabledRequest), call.context
    found = await _named(call)
    await users.set_disabled(context.database, found.id, body.disabled, call.condition)
    if body.disabled and body.revoke_tokens:
        for login in await service_tokens.revoke_of(context.database, found.id, context.now()):
            end_login(context, login)
    await context.policy_feed.refresh()
    return _versioned(await users.get_by_id(context.database, found.id))


async def delete_user(call: Call) -> None:
    """Remove a user and end all logins."""
    found = await _named(call)
    await users.delete_user(call.context.database, found.id, call.condition)
    await call.context.policy_feed.refresh()


async def _named(call: Call) -> UserRecord:
    call.subject = call.path["id"][:256]
    user = await users.get_by_key(call.context.database, call.path["id"])
    call.subject = user.email
    return user


def _versioned(user: UserRecord) -> Versioned:
    return Versioned(_shown(user), user.revision)


def _shown(user: UserRecord) -> schemas.User:
    return schemas.User(
        id=user.id,
        email=user.email,
        name=user.name,
        roles=list(user.roles),
        disabled=user.disabled,
        has_password=user.password_hash is not None,
        must_change_password=user.must_change_password,
        created_at=user.created_at,
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/users",
        list_users,
        "List users",
        Access.ADMIN,
        query=UserQuery,
        response=UserList,
    ),
    Endpoint(
        "POST",
        "/users",
        create_user,
        "Make a user",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.CreateUserRequest,
        response=schemas.User,
        status=201,
        refusals=(409,),
        verb="create",
        resource="users",
    ),
    Endpoint(
        "GET",
        "/users/{id}",
        get_user,
        "Show one user",
        Access.ADMIN,
        response=schemas.User,
        refusals=(404, 409),
    ),
    Endpoint(
        "DELETE",
        "/users/{id}",
        delete_user,
        "Remove a user",
        Access.ADMIN,
        Audit.CHANGE,
        status=204,
        conditional=True,
        refusals=(404, 409),
        verb="delete",
        resource="users",
    ),
    Endpoint(
        "PUT",
        "/users/{id}/roles",
        set_roles,
        "Replace the roles of a user",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.UserRolesRequest,
        response=schemas.User,
        conditional=True,
        refusals=(404, 409),
        verb="update",
        resource="users",
    ),
    Endpoint(
        "PUT",
        "/users/{id}/password",
        set_password,
        "Give a user a new password",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.PasswordRequest,
        status=204,
        conditional=True,
        refusals=(404, 409),
        verb="update",
        resource="users",
    ),
    Endpoint(
        "PUT",
        "/users/{id}/disabled",
        set_disabled,
        "Lock a user out, or let the user in again",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.DisabledRequest,
        response=schemas.User,
        conditional=True,
        refusals=(404, 409),
        verb="update",
        resource="users",
    ),
)
