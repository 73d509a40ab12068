"""The two audit journals as the settings say, of everybody and of strangers, and what central
itself has done. Called by `app`.
"""

import time

from mk8s_proxy.audit.event import AuditEntry, AuditFacts
from mk8s_proxy.audit.identifier import new_audit_id
from mk8s_proxy.audit.journal import Journal
from mk8s_proxy.audit.redaction import COMMANDS
from mk8s_proxy.audit.strangers import Strangers
from mk8s_proxy.settings.model import Settings


def open_journals(settings: Settings) -> tuple[Journal, Strangers]:
    """Opens both, for this process to write.

    Raises:
        OSError: one of the files cannot be used.
    """
    audit = settings.audit
    COMMANDS.use(audit.redact_commands)
    strangers = Strangers(
        settings.strangers_path,
        max_bytes=audit.strangers_max_bytes,
        keep=audit.strangers_keep,
        rows_per_second=audit.strangers_per_second,
    )
    path = settings.journal_path
    try:
        journal = Journal(path, max_bytes=audit.max_bytes, keep=audit.keep, strangers=strangers)
    except BaseException:
        strangers.close()
        raise
    return journal, strangers


def key_retired(kid: str) -> AuditEntry:
    """The entry of a signing key that has reached its end: nobody asked for that, time did."""
    facts = AuditFacts(
        user="mk8s-central",
        verb="retire",
        api_group="mk8s.io",
        resource="signingkeys",
        name=kid,
        decision="allow",
        reason="no token of it can be good any more",
    )
    return AuditEntry(new_audit_id(), time.time(), facts=facts, code=200)
