"""Signing keys of access tokens: which there are, a new one, one less. For admins.

A key that was stolen is replaced by `rotate`, then `retire` of the stolen one: from then on, within
the policy poll, every token that it signed is refused, and people's CLIs fetch new ones.
"""

import asyncio

from mk8s_proxy.api import pages, schemas
from mk8s_proxy.api.endpoint import Access, Audit, Call, Endpoint
from mk8s_proxy.api.list_schemas import KeyQuery, SigningKeyList
from mk8s_proxy.db import keys
from mk8s_proxy.db.errors import NotFound
from mk8s_proxy.identity.key_rotation import KeyStatus, key_statuses, rotation_of
from mk8s_proxy.identity.signing_keys import SigningKey


async def list_keys(call: Call) -> schemas.Model:
    """List signing keys, retired ones too."""
    wanted = call.read_query(KeyQuery).status
    found = [_shown(it) for it in await _statuses(call) if wanted in (None, it.phase)]
    shown, cursor = pages.cut(call, found, _place)
    return SigningKeyList(keys=shown, next_cursor=cursor)


async def rotate_keys(call: Call) -> schemas.Model:
    """Publish a new key, which signs as soon as every replica knows it."""
    context = call.context
    fresh = await asyncio.to_thread(SigningKey.generate)
    call.subject = fresh.kid
    await keys.rotate_key(
        context.database,
        fresh.kid,
        fresh.private_pem(),
        now=context.now(),
        settle_seconds=rotation_of(context.settings).settle,
    )
    await context.policy_feed.refresh()
    return await _one(call, fresh.kid)


async def retire_key(call: Call) -> schemas.Model:
    """Refuse all tokens of a key, at every replica within the policy poll."""
    kid = call.path["id"]
    call.subject = kid[:256]
    await keys.retire_key(call.context.database, kid, now=call.context.now())
    await call.context.policy_feed.refresh()
    return await _one(call, kid)


def _place(key: schemas.SigningKey) -> pages.Place:
    return key.created_at.isoformat(), key.id


async def _statuses(call: Call) -> list[KeyStatus]:
    context = call.context
    records = await keys.list_keys(context.database)
    return key_statuses(records, now=context.now(), rotation=rotation_of(context.settings))


async def _one(call: Call, kid: str) -> schemas.SigningKey:
    for status in await _statuses(call):
        if status.record.kid == kid:
            return _shown(status)
    raise NotFound("signing key", kid)


def _shown(status: KeyStatus) -> schemas.SigningKey:
    record = status.record
    return schemas.SigningKey(
        id=record.kid,
        name=record.kid,
        status=status.phase,
        created_at=record.created_at,
        signs_from=status.signs_from,
        verifies_until=status.verifies_until,
        retired_at=record.retired_at,
    )


ENDPOINTS = (
    Endpoint(
        "GET",
        "/keys",
        list_keys,
        "List the signing keys",
        Access.ADMIN,
        query=KeyQuery,
        response=SigningKeyList,
    ),
    Endpoint(
        "POST",
        "/keys",
        rotate_keys,
        "Publish a new signing key",
        Access.ADMIN,
        Audit.CHANGE,
        response=schemas.SigningKey,
        status=201,
        refusals=(409,),
        verb="create",
        resource="signingkeys",
    ),
    Endpoint(
        "POST",
        "/keys/{id}/retire",
        retire_key,
        "Refuse all tokens of a signing key",
        Access.ADMIN,
        Audit.CHANGE,
        response=schemas.SigningKey,
        refusals=(404, 409),
        verb="retire",
        resource="signingkeys",
    ),
)
