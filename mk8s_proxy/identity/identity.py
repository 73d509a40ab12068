"""The verified caller of one request, and the refusal when there is none.

Built by `access_token.TokenAuthenticator`; read by the chain, the audit and the API.
"""

# compiled: every request and every row reads it

import dataclasses
import re
from typing import NamedTuple

USERS_GROUP = "mk8s:users"
"""Marker group of everybody who logged in here; the agent refuses an identity without it."""

EVERYBODY = (USERS_GROUP,)
"""The groups of a login whose source named none."""

OWN_PREFIX = "mk8s:"
"""Groups that mk8s gives a meaning; none of another source may be called so."""

RESERVED_PREFIX = "system:"
"""Names that Kubernetes gives a meaning of its own; no person may be called so."""

MOST_GROUPS = 200
MOST_GROUP_BYTES = 3072
"""Groups of one login, and their names together: a token carries them in each request."""
MOST_NARROWING_BYTES = 2048

LONGEST_NAME_BYTES = 256
"""Longest user name, in bytes of UTF-8 (the agent refuses longer ones too)."""

CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""A DNS-1123 label, RFC 1123 section 2.1: what a cluster may be called (use fullmatch)."""


class Unauthenticated(Exception):
    """No valid credential: the client gets 401.

    Attributes:
        reason: A stable word for logs, metrics and the audit row, e.g. "TOKEN_EXPIRED".
        message: One line for the person, never containing any part of the credential.
        code: The HTTP status.
    """

    def __init__(self, reason: str, message: str, code: int = 401) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.code = code  # no attribute of the class: compiled exceptions lose those


class Login(NamedTuple):
    """What access tokens come of."""

    id: str
    ends: float
    """When it ends by itself, epoch seconds: what its tokens opened may stay open until then."""
    groups: tuple[str, ...] = ()
    """Of its source, without the group of everybody."""
    narrowing: str = ""
    """Canonical JSON of what it may do at most; "" for all that its user may."""
    delegate: str = ""
    """What a delegation is called, "" for a login of the user's own."""


class BoundCluster(NamedTuple):
    """The only cluster that a token is good for."""

    name: str
    id: str
    """Another cluster of that name has another one."""
    command: str = ""
    """Audit id of the command of kubectl that central runs with the token, "" for any other one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What a verified access token says.

    It does not change, and nothing is kept on it: a remembered token holds this and no more.
    """

    user: str
    """Email address, lower case: the user name in policy, audit and impersonation."""
    uid: str
    """Id of the user's row; it survives a change of the email address."""
    groups: tuple[str, ...]
    """Groups for policy and impersonation, the marker group always among them."""
    expires: float
    """End of the token's life, epoch seconds, without leeway."""
    cluster: str
    """The only cluster that the token is good for; "" for any."""
    token_id: str
    """Claim jti, unique for each access token; "" for a service token."""
    epoch: int
    """The user's token epoch at minting; a password change or a lock increases it."""
    login: str = ""
    """Claim sid, the login that the token comes of: a logout ends all of them; "" for none."""
    login_ends: float = 0.0
    """Claim sid_exp, when that login ends by itself, epoch seconds; 0 if the token does not say."""
    name: str = ""
    """Name for people to read, never used in a decision."""
    cluster_id: str = ""
    """The id of that cluster when the token was made: its name may mean another one by now."""
    key_id: str = ""
    """The key that signed the token; a retired key takes its identities with it."""
    command: str = ""
    """Audit id of the command that central runs for the caller with this token; "" for any other
    token."""
    narrowing: str = ""
    """Claim narrow, canonical JSON: may do no more than this, whatever the user may; "" for all."""
    delegate: str = ""
    """Claim delegate, what the user calls whom this login was delegated to; "" for the user."""
    original: "Identity | None" = None
    """Whose token it is when somebody acts as `user` (`mk8s_proxy.chain.impersonation`)."""
    extra: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """What else the cluster is told about the user; only somebody who is acted as has any."""

    @property
    def login_groups(self) -> tuple[str, ...]:
        """The groups that roles are given to: none of those that somebody asked to act with."""
        return self.groups if self.original is None else EVERYBODY

    @property
    def of_login(self) -> Login | None:
        """The login that the token comes of, None for none."""
        if not self.login:
            return None
        groups = tuple(group for group in self.groups if group != USERS_GROUP)
        return Login(self.login, self.login_ends, groups, self.narrowing, self.delegate)

    @property
    def is_delegation(self) -> bool:
        """Whether it may do less than its user."""
        return bool(self.narrowing or self.delegate)

    @property
    def credential_ends(self) -> float:
        """When the credential itself ends, epoch seconds: a service token, which has no id, is only
        looked up again when the identity expires."""
        return self.expires if self.token_id else self.login_ends

    @property
    def ends(self) -> float:
        """When what this identity opened must end at the latest: with its login, or with its token
        if that comes of none. Epoch seconds, without leeway."""
        return max(self.login_ends, self.expires)

    def require_cluster(self, cluster: str, cluster_id: str) -> None:
        """Refuse a token on another cluster than the one it was made for.

        Args:
            cluster: the name of the one that is addressed.
            cluster_id: what that name means now; "" for no cluster that is known.

        Raises:
            Unauthenticated: The token is bound to a different cluster.
        """
        if self.cluster and (self.cluster, self.cluster_id) != (cluster, cluster_id):
            raise Unauthenticated(
                "TOKEN_CLUSTER",
                "the access token was made for another cluster: "
                "use the kubeconfig context of this cluster (mk8s use NAME)",
            )


def is_safe_user_name(name: str) -> bool:
    """Say whether a name may become a header, a log field and a Kubernetes user.

    Printable (no CR, LF, NUL, bidirectional overrides, or line separators), no spaces, bounded, and
    never in Kubernetes's own `system:` range.
    """
    return (
        bool(name)
        and name.isprintable()
        and " " not in name
        and not name.lower().startswith(RESERVED_PREFIX)
        and len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME_BYTES
    )


def is_issuers_group(name: str) -> bool:
    """Say whether a group may come of a login's source: its prefix, ":" and a safe name.

    Never one that Kubernetes (`system:`) or mk8s (`mk8s:`) gives a meaning.
    """
    prefix, colon, rest = name.partition(":")
    return (
        bool(prefix and colon and rest)
        and name.isprintable()
        and name == name.strip()
        and not name.casefold().startswith((RESERVED_PREFIX, OWN_PREFIX))
        and len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME_BYTES
    )
