"""`AuditEntry`: what is known of one request, filled as it goes; its rows are made from it.

Made and filled by the corridor and the management API; read by `mk8s_proxy.audit.rows`. Pure.
"""

from dataclasses import dataclass

from mk8s_proxy.audit.identifier import AuditId


@dataclass(frozen=True, slots=True)
class ImpersonatedUser:
    """As whom a user acted: audit.k8s.io's `impersonatedUser`."""

    user: str
    uid: str
    groups: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]


@dataclass(slots=True)
class AuditEntry:
    """What is known of one request; strings may be hostile, its rows are not.

    Only `audit_id` and `received` are needed: an entry that nobody filled in is a refusal.
    What a request's head tells comes first, because arguments by position take half the time.
    """

    audit_id: AuditId
    received: float
    """When the head was complete: seconds since the epoch."""
    method: str = ""
    request_uri: str = ""
    """Path and query as sent; secrets are removed when the row is made."""
    source_ip: str = ""
    user_agent: str = ""
    client_audit_id: str = ""
    """The Audit-ID the client sent: untrusted."""
    user: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    token_id: str = ""
    """The `jti` of the access token."""
    cluster: str = ""
    verb: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    """Empty for requests that are not about a resource."""
    subresource: str = ""
    name: str = ""
    decision: str = "forbid"
    """allow or forbid."""
    reason: str = ""
    """The sentence behind the decision: the rule that allowed, or what was missing."""
    refusal: str = ""
    """The reason code of a refusal, such as ENC_SLASH or NO_CREDENTIAL."""
    code: int = 0
    """The HTTP status the client got; 0 when it got none."""
    bytes_in: int = 0
    bytes_out: int = 0
    duration: float = 0.0
    """Seconds from `received` to the end of the response."""
    upstream_audit_id: str = ""
    """The Audit-ID the API server answered with."""
    parent_audit_id: str = ""
    """The `audit_id` of the client's request, if central made this one to carry it out."""
    impersonated: ImpersonatedUser | None = None
    """As whom the user was allowed to act, if so asked."""
