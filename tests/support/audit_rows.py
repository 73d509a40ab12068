"""Requests as the journal has them, for tests of what becomes of its rows."""

from pathlib import Path
from typing import Any

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import AuditId
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.audit.record import AuditRecord, record_of
from mk8s_proxy.audit.rows import encode_intent, encode_outcome

NOON = 1_790_000_000.0


def entry(
    audit_id: str, *, at: float = 0.0, code: int = 200, decision: str = "allow", **facts: Any
) -> AuditEntry:
    """A request that began `at` seconds after noon; by default a pod is read in namespace shop."""
    known = {
        "verb": "get", "resource": "pods", "name": "web", "namespace": "shop", "cluster": "prod",
        "user": "dev@example.com", "uid": "u-dev",
    } | facts  # fmt: skip
    made = AuditEntry(
        AuditId(audit_id), NOON + at, "192.0.2.1", AuditFacts(decision=decision, **known)
    )
    made.code, made.duration = code, 0.25
    return made


def record(made: AuditEntry, *, ended: bool = True) -> AuditRecord:
    """Its record: of its outcome, or of its intent."""
    encode = encode_outcome if ended else encode_intent
    return record_of(encode(made, made.received), lambda *_: True)


def open_journal(path: Path, *, max_bytes: int = 1 << 20, keep: int = 3) -> Journal:
    """A journal on a clock that stands still; patient, since a busy machine is no slow disk."""
    return Journal(path, max_bytes=max_bytes, keep=keep, clock=lambda: NOON, patience=60.0)
