"""What is asked of `POST /clusters/{id}/exec`, and what it answers."""

from typing import Annotated, Literal

from pydantic import Field

from mk8s_proxy.api.schemas import Model
from mk8s_proxy.kubectl.check import MOST_ARGUMENTS


class ExecRequest(Model):
    """A command of kubectl."""

    command: Annotated[
        list[str],
        Field(
            min_length=1,
            max_length=MOST_ARGUMENTS,
            description='what would stand behind kubectl, as in ["get", "pods", "-n", "shop"]',
            examples=[["get", "pods", "-n", "default"]],
        ),
    ]
    stdin: Annotated[
        str, Field(repr=False, description="its standard input, as for apply -f -")
    ] = ""


class ExecEnded(Model):
    """How a command ended."""

    exit_code: Annotated[
        int, Field(description="kubectl's own; 124 after the time limit, 137 after too much output")
    ]
    truncated: Annotated[bool, Field(description="there was more output than central hands on")]
    ended_by: Annotated[
        Literal["exit", "time_limit", "output_limit"], Field(description="why it ended")
    ]
    duration_ms: float
    id: Annotated[str, Field(description="its Audit-ID; its requests name it as their parent")]


class ExecResponse(ExecEnded):
    """A command that has ended, and all it said."""

    output: Annotated[str, Field(description="its standard output")]
    errors: Annotated[str, Field(description="its standard error")]
