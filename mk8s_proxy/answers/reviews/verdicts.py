"""The answer of a cluster and that of mk8s become one; pure. Called by `interceptor`.

Both functions return what the status of a review must say instead, or None where the cluster's
status already says what both do.
"""

import itertools
from collections.abc import Iterable
from typing import Any, Final

from mk8s_proxy.answers.reviews.documents import DocumentError
from mk8s_proxy.authz.access import Access
from mk8s_proxy.authz.access_review import review
from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.narrowing import NarrowedAccess
from mk8s_proxy.authz.rules_review import Narrowing, PathRule, ResourceRule
from mk8s_proxy.kube.protobuf import Message

INCOMPLETE: Final = (
    "mk8s: not every rule of mk8s can be written in Kubernetes's words, and * may stand for less "
    "than to Kubernetes (no subresources, no impersonation): ask kubectl auth can-i VERB RESOURCE"
)


def access_status(content: Message, access: Access | NarrowedAccess) -> Message | None:
    """The status of a SelfSubjectAccessReview that the cluster allowed and mk8s does not.

    `denied` becomes true where a rule of mk8s denies; without such a rule nobody allows.

    Raises:
        DocumentError: the review does not say what it is about, or what the answer is.
    """
    spec, status = _message(content, "spec"), _message(content, "status")
    if not _flag(status, "allowed"):
        return None
    decision = review(access, _question(spec))
    if decision.allowed:
        return None
    changed = {**status, "allowed": False, "reason": f"mk8s: {decision.reason}"}
    if decision.rule:
        changed["denied"] = True
    return changed


def _question(spec: Message) -> Attributes:
    asked = spec.get("resourceAttributes")
    if asked is None:
        path = _message(spec, "nonResourceAttributes")
        return Attributes(_text(path, "verb"), path=_text(path, "path"), is_resource_request=False)
    asked = _message(spec, "resourceAttributes")
    keys = ("verb", "group", "resource", "subresource", "namespace", "name")
    verb, group, resource, subresource, namespace, name = (_text(asked, key) for key in keys)
    resource, _, below = resource.partition("/")
    return Attributes(verb, group, resource, subresource or below, namespace, name)


def rules_status(
    content: Message, access: Access | NarrowedAccess, namespace: str
) -> Message | None:
    """The status of a SelfSubjectRulesReview with the rules that all sides have.

    Raises:
        DocumentError: a rule that cannot be read.
    """
    status = changed = _message(content, "status")
    for layer in access.layers:
        changed = _with_rules_of(layer, changed, namespace)
    return None if changed == status else changed


def _with_rules_of(access: Access, status: Message, namespace: str) -> Message:
    narrowing = Narrowing(access, namespace)
    resources = [
        {**rule, **_written(narrowed)}
        for rule in _affordable(narrowing, _messages(status, "resourceRules"))
        for narrowed in narrowing.resources(_resource_rule(rule))
    ]
    paths = [
        {**rule, "verbs": list(narrowed.verbs), "nonResourceURLs": list(narrowed.urls)}
        for rule in _affordable(narrowing, _messages(status, "nonResourceRules"))
        for narrowed in narrowing.paths(_path_rule(rule))
    ]
    changed = {**status, "resourceRules": resources, "nonResourceRules": paths}
    if narrowing.incomplete:
        told = _text(status, "evaluationError")
        changed["incomplete"] = True
        known = told.endswith(INCOMPLETE)
        changed["evaluationError"] = told if known else f"{told}; {INCOMPLETE}".removeprefix("; ")
    return changed


def _affordable(narrowing: Narrowing, rules: Iterable[Message]) -> Iterable[Message]:
    """The rules that there is time for: the loop of central waits meanwhile."""
    return itertools.takewhile(lambda _: narrowing.begins_another(), rules)


def _resource_rule(rule: Message) -> ResourceRule:
    keys = ("verbs", "apiGroups", "resources", "resourceNames")
    return ResourceRule(*(_texts(rule, key) for key in keys))


def _path_rule(rule: Message) -> PathRule:
    return PathRule(_texts(rule, "verbs"), _texts(rule, "nonResourceURLs"))


def _written(rule: ResourceRule) -> Message:
    written: dict[str, Any] = {
        "verbs": list(rule.verbs),
        "apiGroups": list(rule.api_groups),
        "resources": list(rule.resources),
    }
    if rule.names:
        written["resourceNames"] = list(rule.names)
    return written


def _message(content: Message, key: str) -> Message:
    value = content.get(key)
    if not isinstance(value, dict):
        raise DocumentError(f"no {key}")
    return value


def _messages(content: Message, key: str) -> Iterable[Message]:
    value = [] if content.get(key) is None else content[key]
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise DocumentError(f"{key} is no list of rules")
    return value


def _flag(content: Message, key: str) -> bool:
    value = content.get(key, False)
    if not isinstance(value, bool):
        raise DocumentError(f"{key} is neither true nor false")
    return value


def _text(content: Message, key: str) -> str:
    value = "" if content.get(key) is None else content[key]
    if not isinstance(value, str):
        raise DocumentError(f"{key} is no string")
    return value


def _texts(content: Message, key: str) -> tuple[str, ...]:
    value = [] if content.get(key) is None else content[key]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise DocumentError(f"{key} is no list of strings")
    return tuple(value)
