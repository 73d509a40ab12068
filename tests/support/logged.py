"""What was logged, as the text form of the log shows it: events with their fields."""

import pytest

from mk8s_agent.wire.log import TextFormatter


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """One line for each record."""
    formatter = TextFormatter()
    return "\n".join(formatter.format(record) for record in caplog.records)
