"""Bodies of the endpoints for delegations. See `schemas`, of which this is a part."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mk8s_proxy.api.schemas import Model, Narrowing, TokenResponse, Words

SHORTEST_SECONDS: Final = 60
LONGEST_LABEL: Final = 64


def _label(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable, without spaces at its ends")
    return value


class DelegationRequest(Model):
    """A login to be delegated. What is left out is everything, but of the verbs those that read."""

    seconds: Annotated[int, Field(ge=SHORTEST_SECONDS, description="until it ends by itself")]
    clusters: Words | None = None
    namespaces: Words | None = None
    verbs: Words | None = None
    resources: Words | None = None
    label: Annotated[
        str,
        Field(max_length=LONGEST_LABEL, description="whom it is for, as the audit names them"),
        AfterValidator(_label),
    ] = ""


class Delegated(Model):
    """A delegation as its owner, or it itself, sees it."""

    id: str
    delegate: Annotated[str, Field(description="how the audit names it")]
    narrowing: Narrowing
    ends_at: datetime


class MadeDelegation(TokenResponse):
    """A delegation with its tokens, which are shown this once."""

    delegation: Delegated
    clusters: Annotated[list[str], Field(description="those that it may use")]
