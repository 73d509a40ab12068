"""The sentence that a refused user reads. Called by the handler chain when a decision denies."""

import json

from mk8s_proxy.authz.attributes import Attributes, Decision


def forbidden_message(user: str, cluster: str, attributes: Attributes, decision: Decision) -> str:
    """Say what is forbidden in Kubernetes's wording (apiserver, `responsewriters/errors.go`).

    The cluster and the reason of the decision follow, so that the user knows which role to ask
    for. Whatever came from the request is quoted: it cannot break the line.
    """
    subject = f"User {_quoted(user)} cannot {attributes.verb}"
    if not attributes.is_resource_request:
        wish = f"{subject} path {_quoted(attributes.path)}"
        return f"forbidden: {wish} of cluster {_quoted(cluster)}: {decision.reason}"
    resource = attributes.resource
    if attributes.subresource:
        resource = f"{resource}/{attributes.subresource}"
    where = "at the cluster scope"
    if attributes.namespace:
        where = f"in the namespace {_quoted(attributes.namespace)}"
    wish = (
        f"{subject} resource {_quoted(resource)} in API group {_quoted(attributes.api_group)} "
        f"{where} of cluster {_quoted(cluster)}"
    )
    kind = f"{attributes.resource}.{attributes.api_group}".rstrip(".")
    named = f"{kind} {_quoted(attributes.name)}" if attributes.name else kind
    return f"{named} is forbidden: {wish}: {decision.reason}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=not text.isprintable())


def refusal_details(attributes: Attributes) -> dict[str, str] | None:
    """The details that kube-apiserver puts into a Forbidden."""
    if not attributes.is_resource_request:
        return None
    details = {
        "name": attributes.name,
        "group": attributes.api_group,
        "kind": attributes.resource,
    }
    return {key: value for key, value in details.items() if value}
