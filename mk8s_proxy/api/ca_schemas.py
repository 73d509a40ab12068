"""What the endpoints of the certificate authorities take and give."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from mk8s_proxy.api.schemas import Model


class CertificateAuthority(Model):
    """One certificate authority."""

    purpose: Annotated[
        Literal["server", "agent"], Field(description="server: of what central shows; agent")
    ]
    pin: Annotated[str, Field(description="sha256: and the hash of its public key")]
    status: Annotated[
        Literal["signing", "next", "leaving"],
        Field(description="next: trusted, and not signing yet; leaving: trusted until `retire`"),
    ]
    expires_at: datetime


class WaitingAgent(Model):
    """An agent that the retirement of the old authorities would keep out."""

    cluster: str
    id: Annotated[str, Field(description="as `GET /agents` calls it")]
    reason: str
    expires_at: Annotated[datetime, Field(description="the end of its certificate")]


class Rotation(Model):
    """A rotation that is under way."""

    started_at: datetime
    signs_from: Annotated[datetime, Field(description="when the new agent CA begins to sign")]
    waiting: Annotated[int, Field(description="agents that have not moved yet")]
    waiting_agents: Annotated[list[WaitingAgent], Field(description="the first 100 of them")]


class CertificateAuthorities(Model):
    """The certificate authorities, and the rotation that is under way."""

    authorities: list[CertificateAuthority]
    rotation: Rotation | None


class Retirement(Model):
    """How the old authorities are to be retired."""

    force: Annotated[
        bool, Field(description="also while agents have not moved; those have to join again")
    ] = False
