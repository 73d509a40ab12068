"""`AuditEntry`: what is known of one request, filled as it goes; its rows are made from it.

Made by client connections, filled by the handler chain and the management API; read by
`mk8s_proxy.audit.rows`. Pure.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from mk8s_proxy.audit.identifier import AuditId


class ImpersonatedUser(NamedTuple):
    """As whom a user acted: audit.k8s.io's `impersonatedUser`."""

    user: str
    uid: str
    groups: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]


class AuditFacts(NamedTuple):
    """Who asks for what, and what was decided; strings may be hostile, rows are not.

    Equal requests share one, so it never changes: another decision is another object.
    """

    method: str = ""
    request_uri: str = ""
    """Path and query as sent; secrets are removed when the row is made."""
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
    impersonated: ImpersonatedUser | None = None
    """As whom the user was allowed to act, if so asked."""
    delegate: str = ""
    """What the user calls whom the login was delegated to; "" for the user."""


class RowTexts(NamedTuple):
    """The JSON of some facts, for the rows of all requests that share them (`rows.texts_of`)."""

    facts: AuditFacts
    before: str
    """What a row says before its times, from `requestURI` on."""
    after: str
    """What it says after them, up to the annotations that requests do not share."""
    cut: str
    """What was too long for it: names, each with a comma behind it."""
    short: bool
    """To keep it takes less memory than it spares time."""


NOTHING_KNOWN: Final = AuditFacts()


@dataclass(slots=True)
class AuditEntry:
    """One request. An entry that nobody filled in is a refusal."""

    audit_id: AuditId
    received: float
    """When the head was complete: seconds since the epoch."""
    source_ip: str = ""
    facts: AuditFacts = NOTHING_KNOWN
    texts: RowTexts | None = None
    """Of `facts`, where equal requests share them: rows need not make them again."""
    refusal: str = ""
    """The reason code of a refusal, such as ENC_SLASH or NO_CREDENTIAL."""
    code: int = 0
    """The HTTP status the client got; 0 when it got none."""
    bytes_in: int = 0
    bytes_out: int = 0
    duration: float = 0.0
    """Seconds from `received` to the end of the response, by a clock that is never set."""
    upstream_audit_id: str = ""
    """The Audit-ID the API server answered with."""
    began: float = 0.0
    """When the head was complete, by the monotonic clock: for `duration`."""
    left: float = 0.0
    """When it went to its tunnel, by the monotonic clock; 0 where it did not."""
    answered: float = 0.0
    """When its answer began to come out of the tunnel, by the same clock."""
    lasts: bool = False
    """It was a watch, a followed log or an upgraded connection, and as long as its user liked."""
    parent_audit_id: str = ""
    """The `audit_id` of the client's request, if central made this one to carry it out."""
