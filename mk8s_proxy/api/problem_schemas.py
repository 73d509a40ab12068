"""The body of every refusal: problem details, RFC 9457. Made by `errors`."""

from typing import Annotated

from pydantic import Field

from mk8s_proxy.api.schemas import Model

MEDIA_TYPE = "application/problem+json"


class FieldProblem(Model):
    """What is wrong with one field."""

    field: Annotated[
        str, Field(description="of the body, the query or a header; parts joined by dots")
    ]
    detail: Annotated[str, Field(description="what is wrong with it")]


class Problem(Model):
    """Why a request was refused, and what to do about it (RFC 9457)."""

    type: Annotated[str, Field(description="a tag URI (RFC 4151) that ends with `reason`")]
    title: Annotated[str, Field(description="the status in words")]
    status: Annotated[int, Field(description="the HTTP status")]
    detail: Annotated[str, Field(description="one line that says what to do")]
    instance: Annotated[
        str, Field(description="this answer: a URN of the id in X-Request-Id, the log and audit")
    ]
    reason: Annotated[str, Field(description="Kubernetes's word (metav1.StatusReason)")]
    code: Annotated[
        str | None,
        Field(default=None, description="the word of RFC 6749 or RFC 8628, where one fits"),
    ]
    errors: Annotated[
        list[FieldProblem],
        Field(default_factory=list, description="the fields at fault, if it is for some"),
    ]
    message: Annotated[
        str,
        Field(
            description="`detail` again, for clients from before there were problem details",
            json_schema_extra={"deprecated": True},
        ),
    ]


class OAuthProblem(Problem):
    """The same where clients of OAuth ask, who look for one member (RFC 6749, section 5.2)."""

    error: Annotated[str, Field(description="`code` again")]
