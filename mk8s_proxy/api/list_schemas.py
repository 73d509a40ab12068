"""What is asked of lists, and what they answer: an envelope named after the resource.

The audit's are in `audit_schemas`. How pages are cut is in `pages`.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from mk8s_proxy.api.policy_schemas import Role
from mk8s_proxy.api.schemas import Agent, Cluster, Model, Page, SigningKey, User

MOST_ITEMS = 500
"""On one page, and how many there are if nobody says."""
_DECIMAL = re.compile(r"-?[0-9]{1,19}")


def _plain(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable")
    return value


def _decimal(value: object) -> object:
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        raise ValueError("must be a number in digits")
    return value


def _true_or_false(value: object) -> object:
    if value not in ("true", "false", True, False):
        raise ValueError("must be true or false")
    return value


def _label(value: str) -> str:
    if any(not part.partition("=")[0] for part in value.split(",")):
        raise ValueError("must be KEY=VALUE or KEY, several with commas between")
    return _plain(value)


IN_DIGITS = BeforeValidator(_decimal)
"""Of a number behind a "?", where pydantic would take "1_0" and " 1.0 ", too. Behind its `Field`,
or the document says nothing of the bounds."""
Limit = Annotated[int, Field(ge=1, le=MOST_ITEMS), IN_DIGITS]
Flag = Annotated[bool, BeforeValidator(_true_or_false)]
Word = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain)]
Pattern = Annotated[Word, Field(description='"*" stands for anything, as in dev-*')]
Labels = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_label)]
Cursor = Annotated[
    str | None,
    Field(max_length=1024, description="next_cursor of the page before, with the same filters"),
]
NextCursor = Annotated[str | None, Field(description="for the next page, if there is more")]


class PageQuery(Model):
    """Which part of a list is wanted."""

    limit: Annotated[
        Limit | None, Field(description=f"at most so many; {MOST_ITEMS} if not given")
    ] = None
    cursor: Cursor = None


class ClusterQuery(PageQuery):
    """Which clusters are wanted. All filters must hold."""

    name: Pattern | None = None
    status: Literal["connected", "disconnected", "pending"] | None = None
    label: Annotated[
        Labels | None, Field(description="KEY=VALUE, or KEY with any value; several with commas")
    ] = None


class UserQuery(PageQuery):
    """Which users are wanted. All filters must hold."""

    name: Annotated[Word | None, Field(description='email or name; "*" stands for anything')] = None
    role: Annotated[Word | None, Field(description="who has it")] = None
    status: Literal["active", "disabled"] | None = None


class RoleQuery(PageQuery):
    """Which roles are wanted."""

    name: Pattern | None = None


class AgentQuery(PageQuery):
    """Which agents are wanted. All filters must hold."""

    cluster: Pattern | None = None
    status: Literal["connected", "disconnected", "expired", "revoked"] | None = None


class KeyQuery(PageQuery):
    """Which signing keys are wanted."""

    status: Literal["pending", "signing", "verifying", "ended", "retired"] | None = None


class ClusterList(Page):
    """The clusters that the caller may use, all of them for an admin; by name."""

    clusters: list[Cluster]
    next_cursor: NextCursor = None


class UserList(Page):
    """Users, by email."""

    users: list[User]
    next_cursor: NextCursor = None


class RoleList(Page):
    """Roles, by name."""

    roles: list[Role]
    next_cursor: NextCursor = None


class AgentList(Page):
    """The agents of all clusters, by cluster and time of joining."""

    agents: list[Agent]
    next_cursor: NextCursor = None


class SigningKeyList(Page):
    """Signing keys, the oldest first; retired ones too."""

    keys: list[SigningKey]
    next_cursor: NextCursor = None
