"""Bodies of the endpoints for locks. See `schemas`, of which this is a part."""

import re
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mk8s_proxy.api.list_schemas import NextCursor, PageQuery, Word
from mk8s_proxy.api.schemas import Model, Page

LONGEST_SECONDS: Final = 366 * 86400
ACCESS_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{22}")
"""Claim jti."""


def _line(value: str) -> str:
    value = value.strip()
    if not value or not value.isprintable():
        raise ValueError("must be one printable line")
    return value


Kind = Literal["user", "group", "role", "cluster", "login", "token"]
Target = Annotated[
    str,
    Field(
        max_length=256,
        description="a user's id or email, the name of a group, role or cluster, the id of a "
        "login, the name or id of a service token, or the id (claim jti) of an access token",
    ),
    AfterValidator(_line),
]
Reason = Annotated[
    str,
    Field(max_length=512, description="for whoever meets the lock, too"),
    AfterValidator(_line),
]
Seconds = Annotated[
    int | None,
    Field(
        ge=1,
        le=LONGEST_SECONDS,
        description="seconds until it ends by itself; null: only an unlock ends it",
    ),
]


class CreateLockRequest(Model):
    """Something to be locked."""

    kind: Kind
    target: Target
    reason: Reason
    expires_in: Seconds = None


class Lock(Model):
    """A lock as administrators see it."""

    id: str
    kind: Kind
    target: str
    reason: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None


class LockQuery(PageQuery):
    """Which locks are wanted. All filters must hold."""

    kind: Kind | None = None
    target: Word | None = None


class LockList(Page):
    """The locks in force, the oldest first."""

    locks: list[Lock]
    next_cursor: NextCursor = None
