"""Whom issuers mean by a user: links between a user and the subjects of issuers. For admins.

A person's first login by single sign-on makes a user. Where a user of that name is there already,
an administrator says here that the two are the same person.
"""

from mk8s_proxy.api import sso_schemas as schemas
from mk8s_proxy.api.endings import end_login
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.schemas import Model
from mk8s_proxy.api.sign_in import provider_of
from mk8s_proxy.db import user_identities, users
from mk8s_proxy.db.users import UserRecord


async def list_user_identities(call: Call) -> Model:
    """List whom issuers mean by a user."""
    return await _shown(call, await _named(call))


async def link_user_identity(call: Call) -> Model:
    """Link a user to an issuer's subject, or to whoever proves the user's email address there next.

    Linking what is linked changes nothing.
    """
    body, context = call.read(schemas.LinkRequest), call.context
    user = await _named(call)
    provider_of(context, body.issuer)
    await user_identities.link(context.database, body.issuer, user.id, body.subject, context.now())
    return await _shown(call, user)


async def unlink_user_identity(call: Call) -> Model:
    """Take an issuer's links from a user, and end the logins that came of them."""
    query, context = call.read_query(schemas.UnlinkQuery), call.context
    user = await _named(call)
    ended = await user_identities.unlink(context.database, query.issuer, user.id, context.now())
    for login in ended:
        end_login(context, login)
    return await _shown(call, user)


async def _named(call: Call) -> UserRecord:
    call.subject = call.path["id"][:256]
    user = await users.get_by_key(call.context.database, call.path["id"])
    call.subject = user.email
    return user


async def _shown(call: Call, user: UserRecord) -> Model:
    found = await user_identities.identities_of(call.context.database, user.id)
    return schemas.UserIdentityList(
        identities=[
            schemas.UserIdentity(issuer=it.issuer, subject=it.subject, last_used=it.last_used)
            for it in found
        ]
    )


_PATH = "/users/{id}/identities"

ENDPOINTS = (
    Endpoint(
        "GET",
        _PATH,
        list_user_identities,
        "List whom issuers mean by a user",
        Access.ADMIN,
        response=schemas.UserIdentityList,
        refusals=(404, 409),
    ),
    Endpoint(
        "PUT",
        _PATH,
        link_user_identity,
        "Link a user to an issuer's subject",
        Access.ADMIN,
        Audit.CHANGE,
        request=schemas.LinkRequest,
        response=schemas.UserIdentityList,
        refusals=(404, 409),
        verb="update",
        resource="useridentities",
    ),
    Endpoint(
        "DELETE",
        _PATH,
        unlink_user_identity,
        "Take an issuer's links from a user",
        Access.ADMIN,
        Audit.CHANGE,
        query=schemas.UnlinkQuery,
        response=schemas.UserIdentityList,
        refusals=(404, 409),
        verb="delete",
        resource="useridentities",
    ),
)
