"""Bodies of the endpoints for service tokens. See `schemas`, of which this is a part."""

import re
from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mk8s_proxy.api.list_schemas import NextCursor, PageQuery, Pattern, Word
from mk8s_proxy.api.schemas import Model, Page, RoleNames

DAY_SECONDS: Final = 86400
LONGEST_SECONDS: Final = 366 * DAY_SECONDS
SHORTEST_SECONDS: Final = 60
LONGEST_OVERLAP: Final = 30 * DAY_SECONDS
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_GLOB = re.compile(r"[a-z0-9*-]{1,63}")


def _token_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 of a-z, 0-9 and '.', '_', '-' between them")
    return value


def _cluster_glob(value: str) -> str:
    if not _GLOB.fullmatch(value):
        raise ValueError("must be a cluster's name, in which * stands for any characters")
    return value


TokenName = Annotated[str, AfterValidator(_token_name)]
ClusterGlob = Annotated[str, AfterValidator(_cluster_glob)]
TokenStatus = Literal["active", "rotating", "expired"]
Seconds = Annotated[
    int,
    Field(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS, description="seconds until it ends by itself"),
]


class CreateTokenRequest(Model):
    """A service token to be made."""

    name: TokenName
    roles: Annotated[RoleNames, Field(min_length=1)]
    clusters: Annotated[
        list[ClusterGlob],
        Field(
            max_length=100,
            default_factory=list,
            description="globs of the only clusters where the roles count; none: of all",
        ),
    ]
    expires_in: Seconds


class RotateTokenRequest(Model):
    """A service token that shall get its next secret."""

    overlap: Annotated[
        int,
        Field(ge=0, le=LONGEST_OVERLAP, description="seconds for which the one before stays good"),
    ] = 3600
    expires_in: Annotated[
        Seconds | None, Field(description="null: as long as the one before was made for")
    ] = None


class ServiceToken(Model):
    """A service token as administrators see it."""

    id: str
    name: str
    user: Annotated[str, Field(description="what policy, audit and clusters call it")]
    roles: list[str]
    clusters: list[str]
    status: TokenStatus
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used: Annotated[
        datetime | None, Field(description="by the minute; null: not yet, as far as is known")
    ]


class TokenQuery(PageQuery):
    """Which service tokens are wanted. All filters must hold."""

    name: Pattern | None = None
    role: Annotated[Word | None, Field(description="which have it")] = None
    status: TokenStatus | None = None


class ServiceTokenList(Page):
    """Service tokens, by name."""

    tokens: list[ServiceToken]
    next_cursor: NextCursor = None


class MadeServiceToken(ServiceToken):
    """A service token with its secret, which is shown this once."""

    token: Annotated[str, Field(repr=False)]
