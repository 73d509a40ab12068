"""Bodies of the endpoints for logins. See `schemas`, of which this is a part."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from mk8s_proxy.api.list_schemas import Flag, NextCursor, PageQuery, Word
from mk8s_proxy.api.schemas import Model, Page

Source = Literal["password", "service_token", "oidc", "federation", "delegation"]
LoginStatus = Literal["active", "ended"]


class LoginQuery(PageQuery):
    """Which logins are wanted: one's own, if nothing else is said. All filters must hold."""

    user: Annotated[
        Word | None,
        Field(description="whose: the id, email or name, or token:NAME; of others for admins"),
    ] = None
    all: Annotated[Flag, Field(description="everybody's, for admins")] = False
    source: Source | None = None
    status: LoginStatus | None = None


class EndLoginsQuery(Model):
    """Which of one's own logins shall end."""

    this: Annotated[Flag, Field(description="the one of this request, too")] = False


class LoginEntry(Model):
    """A login: what its access tokens come of, and what ends with it."""

    id: str
    user: Annotated[str, Field(description='whose; "" for nobody who has a name here')]
    source: Annotated[Source, Field(description="what proved who asked")]
    issuer: Annotated[str, Field(description='the configured issuer that vouched, "" for none')]
    client: Annotated[str, Field(description="the user agent that opened it")]
    address: Annotated[str, Field(description='where from it was opened, "" where unknown')]
    label: Annotated[str, Field(description="what it is called, if anything")]
    claims: Annotated[dict[str, str], Field(description="what the source said, for people")]
    status: LoginStatus
    opened_at: datetime
    last_seen: Annotated[datetime, Field(description="when it was renewed or used last")]
    ends_at: Annotated[datetime, Field(description="when it ends, however often it is used")]
    ended_at: Annotated[datetime | None, Field(description="when it was ended before")]
    ended_why: str
    parent: Annotated[str, Field(description='the login that delegated it, "" for none')]
    narrowing: Annotated[
        dict[str, Any] | None, Field(description="what limits it; null: all that its user may")
    ]
    current: Annotated[bool, Field(description="whether this request comes of it")]


class LoginList(Page):
    """Logins, the newest first. Ended ones are kept for some days."""

    logins: list[LoginEntry]
    next_cursor: NextCursor = None


class EndedLogins(Model):
    """What was ended."""

    ended: Annotated[int, Field(description="how many logins, with their delegations")]
