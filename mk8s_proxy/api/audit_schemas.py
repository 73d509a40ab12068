"""What is asked of the audit, and what it answers. The other models are in `schemas`."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

from mk8s_proxy.api.list_schemas import IN_DIGITS, Cursor, Flag, NextCursor
from mk8s_proxy.api.schemas import Model, Page

MOST_ROWS = 500
"""On one page."""
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998


def _plain(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable")
    return value


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _RFC_3339.fullmatch(value):
        raise ValueError("must be like 2026-01-31T08:00:00Z")
    return value


def _moment(value: datetime) -> datetime:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError("is no time of this audit")
    return value.astimezone(UTC)


Name = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_plain)]
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_moment)]


class AuditQuery(Model):
    """Which requests are wanted. All filters must hold."""

    since: Annotated[Moment | None, Field(description="began then or later")] = None
    until: Annotated[Moment | None, Field(description="began before then")] = None
    user: Annotated[Name | None, Field(description="email; of others for admins only")] = None
    cluster: Name | None = None
    verb: Annotated[
        Name | None, Field(description="Kubernetes's, or logs, exec, portforward, proxy")
    ] = None
    resource: Annotated[
        Name | None,
        Field(description="as in pods, deployments.apps, pods/log, deployments.apps/scale"),
    ] = None
    namespace: Name | None = None
    code: Annotated[
        str | None,
        Field(pattern="^([0-9]{1,3}|[1-5]xx)$", description="HTTP status, or a class such as 4xx"),
    ] = None
    denied: Annotated[Flag | None, Field(description="refused by mk8s or by the cluster")] = None
    cursor: Cursor = None
    after: Annotated[
        Annotated[int, Field(ge=0, le=1 << 62), IN_DIGITS] | None,
        Field(description="follow: what was written after this `number`, oldest first"),
    ] = None
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS), IN_DIGITS] = 100
    events: Annotated[Flag, Field(description="with the whole audit.k8s.io/v1 Event")] = False


class AuditEntry(Model):
    """One request."""

    id: Annotated[str, Field(description="its Audit-ID")]
    number: Annotated[int, Field(description="grows with each change of any entry")]
    created_at: datetime
    user: str
    user_id: Annotated[str, Field(description='"" for a name that was only claimed')]
    cluster: str
    command: Annotated[str, Field(description="as a user of kubectl would have typed it")]
    status: Literal["running", "success", "failure", "denied", "unknown"]
    code: Annotated[int, Field(description="HTTP status; 0 when there is none")]
    duration_ms: float
    verb: Annotated[str, Field(description="Kubernetes's")]
    action: Annotated[str, Field(description="the verb as roles name it: exec, logs")]
    api_group: str
    resource: str
    subresource: str
    namespace: str
    name: str
    denied: bool
    source_ip: str
    delegate: Annotated[str, Field(description='of a delegation, else ""')]
    event: Annotated[
        dict[str, Any] | None, Field(description="audit.k8s.io/v1 Event, where it was asked for")
    ] = None


class AuditPage(Page):
    """Some requests: the newest first, or, after a number, in the order of their writing.

    A page may be short, or empty, and have a cursor: filters that hardly ever meet take several.
    """

    audit: list[AuditEntry]
    next_cursor: NextCursor = None
    newest: Annotated[int, Field(description="`after` for following from here on")]
