"""Bodies of the endpoints for jobs that show a token of their own. See `schemas`."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from mk8s_proxy.api.schemas import Model, Page, RoleNames

TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"
_TYPES: Final = "urn:ietf:params:oauth:token-type:"
LONGEST_SECONDS: Final = 3600
Claims = dict[str, list[str]]


class FederationRule(Model):
    """Which tokens of an issuer of the settings let a job in, and with what roles."""

    name: str
    issuer: Annotated[str, Field(description="of login.federation of the settings, by its name")]
    claims: Annotated[Claims, Field(description="globs, one of which each claim must match")]
    roles: list[str]
    seconds: Annotated[int, Field(description="a login by it lasts no longer")]
    created_at: datetime


class FederationRuleList(Page):
    """Rules, by name."""

    rules: list[FederationRule]


class FederationRuleRequest(Model):
    """A rule as it shall be."""

    issuer: Annotated[str, Field(min_length=1, max_length=63)]
    claims: Annotated[
        Claims,
        Field(
            min_length=1,
            description="one of them must bind the job to an owner, as repository does; a claim "
            "inside of another one is named by its way, as kubernetes.io/namespace",
        ),
    ]
    roles: Annotated[RoleNames, Field(min_length=1)]
    seconds: Annotated[int, Field(ge=60, le=LONGEST_SECONDS)] = LONGEST_SECONDS


class TokenExchangeRequest(Model):
    """RFC 8693 section 2.1: the token of a job for an access token."""

    grant_type: Literal["urn:ietf:params:oauth:grant-type:token-exchange"]
    subject_token: Annotated[str, Field(min_length=1, repr=False)]
    subject_token_type: Literal[
        "urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"
    ]
    requested_token_type: Literal["urn:ietf:params:oauth:token-type:access_token"] = ACCESS_TOKEN


class TokenExchangeResponse(Model):
    """RFC 8693 section 2.2.1. There is no refresh token: the next login needs a next token."""

    access_token: Annotated[str, Field(repr=False)]
    issued_token_type: Literal["urn:ietf:params:oauth:token-type:access_token"] = ACCESS_TOKEN
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int
    expires_at: datetime
    user: Annotated[str, Field(description="federated:ISSUER:SUBJECT")]
    rules: Annotated[list[str], Field(description="those that let the job in")]
    roles: list[str]
