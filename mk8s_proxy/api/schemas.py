"""Every body of the management API, in and out. The OpenAPI document is made from these models.

Read by the handlers; with `policy_schemas` the only place that imports pydantic, beside the door
that parses bodies. Unknown fields are refused, so that a misspelled one is not silently ignored.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mk8s_proxy.identity import passwords
from mk8s_proxy.identity.identity import CLUSTER_NAME, is_safe_user_name
from mk8s_proxy.identity.key_rotation import Phase

_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@]{1,189}")
_LABEL_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_ROLE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:-]{0,62}[A-Za-z0-9])?")


def _email(value: str) -> str:
    value = value.strip().lower()
    if not _EMAIL.fullmatch(value) or not is_safe_user_name(value):
        raise ValueError("must be an email address")
    return value


def _display_name(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable")
    return value


def _cluster_name(value: str) -> str:
    if not CLUSTER_NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 lower-case letters, digits and hyphens (a DNS label)")
    return value


def _label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if not _LABEL_PART.fullmatch(name) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
        raise ValueError("must be a Kubernetes label key, as in team or example.com/team")
    return value


def _label_value(value: str) -> str:
    if value and not _LABEL_PART.fullmatch(value):
        raise ValueError("must be a Kubernetes label value: 63 letters, digits, '-', '_' and '.'")
    return value


def _role_name(value: str) -> str:
    if not _ROLE.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits and '.', '_', ':', '-' between them")
    return value


def _password(value: str) -> str:
    if len(value) < passwords.SHORTEST:
        raise ValueError(f"must be at least {passwords.SHORTEST} characters")
    return value


Email = Annotated[str, Field(max_length=254), AfterValidator(_email)]
DisplayName = Annotated[str, Field(max_length=256), AfterValidator(_display_name)]
ClusterName = Annotated[str, AfterValidator(_cluster_name)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Labels = Annotated[dict[LabelKey, LabelValue], Field(max_length=64)]
RoleName = Annotated[str, AfterValidator(_role_name)]
RoleNames = Annotated[list[RoleName], Field(max_length=100)]
NewPassword = Annotated[str, Field(max_length=passwords.LONGEST), AfterValidator(_password)]
MustChange = Annotated[
    bool, Field(description="whether it is good for its own change by the user, and nothing else")
]
Secret = Annotated[str, Field(max_length=128, repr=False)]


class Model(BaseModel):
    """A body."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,  # an answer leaves nothing out
    )


class Page(Model):
    """A list, or a part of one: exactly one field is a list, and is named after what is in it."""


class LoginRequest(Model):
    """A login by password."""

    email: Annotated[str, Field(min_length=1, max_length=254)]
    password: Annotated[str, Field(min_length=1, max_length=passwords.LONGEST, repr=False)]


class ChangePasswordRequest(Model):
    """A new password by its owner's wish."""

    email: Annotated[str, Field(min_length=1, max_length=254)]
    password: Annotated[str, Field(min_length=1, max_length=passwords.LONGEST, repr=False)]
    new_password: Annotated[NewPassword, Field(repr=False)]


class RefreshRequest(Model):
    """A refresh token to be exchanged, for a token of one cluster if wanted."""

    refresh_token: Secret
    attempt: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{43}$",
        repr=False,
        description="256 random bits (base64url) that the client keeps beside this refresh token. "
        "With them it may repeat the exchange whose answer it lost, and gets the same token.",
    )
    cluster: ClusterName | None = None


class LogoutRequest(Model):
    """The login to end."""

    refresh_token: Secret


class ClusterTokenRequest(Model):
    """The cluster that a bound token is wanted for."""

    cluster: ClusterName


class UserSummary(Model):
    """Who logged in."""

    id: str
    email: str
    name: str
    roles: list[str]


class TokenResponse(Model):
    """A login's tokens. Each refresh token is good for one use."""

    token: Annotated[str, Field(repr=False, description="the same as access_token")]
    access_token: Annotated[str, Field(repr=False)]
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: Annotated[int, Field(description="seconds")]
    expires_at: datetime
    cluster: Annotated[str | None, Field(description="the only cluster it is good for")] = None
    refresh_token: Annotated[str, Field(repr=False)]
    refresh_expires_in: Annotated[int, Field(description="seconds")]
    user: UserSummary


class ClusterTokenResponse(Model):
    """An access token that is good for one cluster only."""

    token: Annotated[str, Field(repr=False, description="the same as access_token")]
    access_token: Annotated[str, Field(repr=False)]
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: Annotated[int, Field(description="seconds")]
    expires_at: datetime
    cluster: str


class Person(Model):
    """A user's names."""

    id: str
    email: str
    name: str


Words = Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=64)]


class Narrowing(Model):
    """What a delegation may do at most, in the words of a role's rule."""

    clusters: Annotated[Words, Field(description="globs of clusters' names")]
    namespaces: Annotated[Words, Field(description='globs; "" are the objects outside of them')]
    verbs: Words
    resources: Annotated[Words, Field(description="Secrets must be named")]


class LoginInfo(Model):
    """What the caller's access tokens come of."""

    id: str
    source: Annotated[str, Field(description="such as password, service_token or delegation")]
    client: Annotated[str, Field(description="the user agent that opened it")]
    opened_at: datetime
    last_seen: Annotated[datetime, Field(description="when it was renewed last")]
    ends_at: Annotated[datetime, Field(description="when it ends, however often it is used")]


class WhoamiResponse(Model):
    """The caller."""

    user: Person
    roles: Annotated[list[str], Field(description="given to the user, and to the groups")]
    groups: Annotated[list[str], Field(description="of mk8s, and of the login")]
    clusters: list[str]
    expires_at: datetime
    admin: bool
    login: LoginInfo | None
    delegate: Annotated[
        str | None, Field(description="how the audit names a delegation; null: the user's own")
    ] = None
    narrowing: Narrowing | None = None


class Jwk(Model):
    """A public signing key, RFC 7517."""

    kty: str
    use: str
    alg: str
    kid: str
    n: str
    e: str


class JwkSet(Model):
    """The public signing keys."""

    keys: list[Jwk]


class SigningKey(Model):
    """A signing key as admins see it."""

    id: str
    name: str
    status: Annotated[
        Phase,
        Field(description="pending: not yet known to every replica; ended: about to be retired"),
    ]
    created_at: datetime
    signs_from: datetime
    verifies_until: Annotated[
        datetime | None, Field(description="when it is retired by itself, as another one follows")
    ]
    retired_at: datetime | None


class Cluster(Model):
    """A cluster as its caller may see it."""

    id: str
    name: str
    labels: dict[str, str]
    status: Annotated[
        Literal["connected", "disconnected", "pending"],
        Field(description="pending: no agent has ever joined"),
    ]
    agents: Annotated[int, Field(description="agents that hold a tunnel")]
    agent_version: str
    kubernetes_version: str
    last_seen: datetime | None
    created_at: datetime
    alert: Annotated[
        str,
        Field(description="for admins: what is wrong with its agents or its RBAC, and what to do"),
    ]
    verbs: Annotated[list[str], Field(description="what some role lets the caller do there")]
    namespace: Annotated[
        str, Field(description='where to begin: the only one that the roles name, or ""')
    ]
    server: Annotated[str, Field(description="for the kubeconfig")]
    context: Annotated[str, Field(description="suggested name of the kubeconfig context")]


class CreateClusterRequest(Model):
    """A cluster to be registered."""

    name: ClusterName
    labels: Labels = Field(default_factory=dict)


class LabelsRequest(Model):
    """The labels that a cluster shall have; others are removed."""

    labels: Labels


class Agent(Model):
    """An agent, by the certificates that descend from one join."""

    id: Annotated[str, Field(description="serial of its first certificate")]
    name: Annotated[str, Field(description="the same")]
    cluster: str
    status: Literal["connected", "disconnected", "expired", "revoked"]
    reason: Annotated[str, Field(description="why it was revoked")]
    tunnels: Annotated[int, Field(description="of this agent at the replica that answers")]
    certificate: Annotated[str, Field(description="serial of its newest certificate")]
    joined_at: datetime
    renewed_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class JoinToken(Model):
    """What an agent needs to join. The token is shown this once."""

    join_token: Annotated[str, Field(repr=False)]
    join_expires_at: datetime
    ca_pin: str
    central_url: str
    command: Annotated[str, Field(repr=False)]


class CreatedCluster(Cluster, JoinToken):
    """A registered cluster and the token for its first agent."""


class Permissions(Model):
    """The rules of the caller's roles on one cluster."""

    cluster: str
    user: str
    rules: list[dict[str, Any]]


class User(Model):
    """A user as admins see it."""

    id: str
    email: str
    name: str
    roles: list[str]
    disabled: bool
    has_password: bool
    must_change_password: bool
    created_at: datetime


class CreateUserRequest(Model):
    """A user to be made. Without a password the user cannot log in by one."""

    email: Email
    name: DisplayName = ""
    password: Annotated[NewPassword | None, Field(repr=False)] = None
    must_change_password: MustChange = False
    roles: RoleNames = Field(default_factory=list)


class UserRolesRequest(Model):
    """The roles that a user shall have; others are taken away."""

    roles: RoleNames


class PasswordRequest(Model):
    """A new password; it ends all logins of the user."""

    password: Annotated[NewPassword, Field(repr=False)]
    must_change_password: MustChange = False


class DisabledRequest(Model):
    """Whether the user is locked out; locking out ends all logins."""

    disabled: bool
    revoke_tokens: Annotated[
        bool, Field(description="whether the service tokens that the user has made end, too")
    ] = False


class JoinRequest(Model):
    """An agent's first contact."""

    token: Secret
    cluster: ClusterName
    csr: Annotated[str, Field(max_length=16384, description="PKCS #10 in PEM, ECDSA P-256")]


class JoinResponse(Model):
    """The agent's certificate."""

    certificate: Annotated[str, Field(description="PEM, the agent's certificate first")]
    ca_certificate: Annotated[str, Field(description="PEM, to verify central by")]
    cluster_id: str
    expires_at: datetime
