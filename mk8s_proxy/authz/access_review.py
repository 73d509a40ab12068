"""May I? One question of a SelfSubjectAccessReview, answered by mk8s's policy alone.

Called by `mk8s_proxy.answers.reviews`. The answer is what the handler chain would say to the
request that the question is about, all that it requires included (`create` for a stream, for
example). Where a question is wider than any request (`*`, or one object's verb in all namespaces),
it is yes only if every request that it stands for would be allowed:

- a list or watch of all namespaces that would be allowed for a part is a yes: that request works,
  and its answer is filtered;
- get, create, update, patch or delete without a namespace is about every namespace, so a role that
  is limited to some is a no;
- a denial of anything that the question covers is a no.

Verbs that mk8s does not decide about (use, ...) are left to the cluster. `bind`, `escalate`,
`approve`, `sign` and `attest` are of use to those alone who may write something by them, and only
then a yes of the cluster stands.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from mk8s_proxy.authz.access import Access
from mk8s_proxy.authz.attributes import Attributes, Decision, required_attributes
from mk8s_proxy.authz.compile import (
    COLLECTION_VERBS,
    ONLY_SPELLED_OUT,
    WORD_OF,
    CompiledRule,
    compile_globs,
)
from mk8s_proxy.authz.grammar import HTTP_METHODS, RESOURCE_VERBS, WORDS
from mk8s_proxy.authz.narrowing import NarrowedAccess
from mk8s_proxy.authz.powers import covered, exercised
from mk8s_proxy.authz.scopes import Scope, is_cluster_scoped
from mk8s_proxy.authz.visibility import NAMESPACES
from mk8s_proxy.kube.request_info import RequestInfo

ANY: Final = "*"
_RESERVED: Final = ("system:", "mk8s:")
CORE_ONLY: Final = frozenset(
    {*WORD_OF, *(kind[1:] for kind in ONLY_SPELLED_OUT), ("pods", "ephemeralcontainers")}
)
"""Subresources with rules of their own; no other API group than the core one has them."""
_BY_NAME_ONLY: Final = frozenset({ANY, *(kind[2] for kind in ONLY_SPELLED_OUT)})
_OBJECT_VERBS: Final = frozenset({"get", "update", "patch", "delete"})
_WORD_VERBS: Final = {"logs": "get", "exec": "create", "portforward": "create", "proxy": "create"}
_WORD_SUBRESOURCES: Final = {
    "logs": "log",
    "exec": "exec",
    "portforward": "portforward",
    "proxy": "proxy",
}


def review(access: Access | NarrowedAccess, asked: Attributes) -> Decision:
    """Answer a question whose parts may be `*` and whose empty namespace means all of them."""
    decision = Decision()
    for layer, wanted in itertools.product(access.layers, _requests(asked)):
        decision = _answer(layer, wanted)
        if not decision.allowed:
            if isinstance(access, NarrowedAccess) and layer is access.bound:
                return access.refusal(decision)
            return decision
    return decision


def touches(rule: CompiledRule, wanted: Attributes, *, everywhere: bool = False) -> bool:
    """Whether a denial is about anything that a wide question covers.

    Args:
        rule: the denial.
        wanted: group, resource and subresource may be `*`.
        everywhere: the question is about all namespaces.
    """
    verbs = rule.spec.verbs
    if not (wanted.verb in verbs or ANY in verbs or rule.forbids(wanted)):
        return False
    if not any(_overlap(pattern, wanted) for pattern in rule.spec.resources):
        return False
    if everywhere:
        return any(rule.spec.namespaces)
    return rule.covers_namespace(wanted.namespace)


def _overlap(pattern: str, wanted: Attributes) -> bool:
    """Whether a resource of a rule and the wanted one have anything in common."""
    parent, _, subresource = pattern.partition("/")
    resource, dot, group = parent.partition(".")
    pairs = (
        (resource, wanted.resource),
        (group if dot else ANY, wanted.api_group),
        (subresource or ANY, wanted.subresource),
    )
    if subresource and not wanted.subresource:
        return False
    return all(asked == ANY or compile_globs((glob,)).matches(asked) for glob, asked in pairs)


def _requests(asked: Attributes) -> Iterator[Attributes]:
    """The requests that the question is about, one for each verb it stands for."""
    if not asked.is_resource_request:
        verbs = sorted(HTTP_METHODS) if asked.verb == ANY else [asked.verb]
        yield from (replace(asked, verb=verb) for verb in verbs)
        return
    if asked.verb in WORDS and not asked.subresource:
        subresource = _WORD_SUBRESOURCES[asked.verb]
        yield replace(asked, verb=_WORD_VERBS[asked.verb], subresource=subresource)
        return
    verbs = sorted(RESOURCE_VERBS) if asked.verb == ANY else [asked.verb]
    yield from (replace(asked, verb=verb) for verb in verbs)


def _answer(access: Access, wanted: Attributes) -> Decision:
    if not access.any_grant:
        return access.decide(wanted)
    if not wanted.is_resource_request:
        return _answer_path(access, wanted)
    if wanted.verb == "impersonate":
        return _answer_impersonation(access, wanted)
    if wanted.verb not in RESOURCE_VERBS:
        return _answer_power(access, wanted)
    decision = Decision()
    for one in _required(_placed(access.with_scope(wanted))):
        required = access.with_scope(one)
        everywhere = _is_everywhere(required)
        required = access.with_guard(required)
        if everywhere or ANY in (required.api_group, required.resource, required.subresource):
            parts = (required, *(covered(required) if access.unbounded else ()))
            guarded = (access.with_guard(part) for part in parts)
            decision = _first_denied(access, guarded, everywhere=everywhere)
        else:
            decision = access.decide(required)
        if not decision.allowed:
            break
    return decision


def _answer_power(access: Access, wanted: Attributes) -> Decision:
    """A verb of no request."""
    decision = Decision(True, "mk8s leaves this verb to the cluster")
    for write in exercised(wanted):
        decision = _answer(access, write)
        if decision.allowed:
            break
    return decision


def _first_denied(access: Access, parts: Iterable[Attributes], *, everywhere: bool) -> Decision:
    decision = Decision()
    for part in parts:
        decision = _decide_wide(access, part, everywhere=everywhere)
        if not decision.allowed:
            break
    return decision


def _required(wanted: Attributes) -> tuple[Attributes, ...]:
    info = RequestInfo(
        True,
        wanted.verb,
        "",
        api_group=wanted.api_group,
        namespace=wanted.namespace,
        resource=wanted.resource,
        subresource=wanted.subresource,
        name=wanted.name,
    )
    return required_attributes(info, upgrade=False, content_type=b"")


def _placed(wanted: Attributes) -> Attributes:
    """The question with the namespace that a request for the object would have.

    kubectl sends the current namespace with every question, also about cluster-scoped objects.
    """
    if wanted.api_group == ANY and (wanted.resource, wanted.subresource) in CORE_ONLY:
        wanted = replace(wanted, api_group="")
    if _is_namespaces(wanted):
        collection = wanted.verb in COLLECTION_VERBS or wanted.verb == "create"
        return replace(wanted, namespace="" if collection else wanted.name)
    if _is_outside(wanted):
        return replace(wanted, namespace="")
    return wanted


def _is_namespaces(wanted: Attributes) -> bool:
    return wanted.resource == NAMESPACES and wanted.api_group in ("", ANY)


def _is_outside(wanted: Attributes) -> bool:
    """Whether the objects surely live outside namespaces."""
    if wanted.scope is not None:
        return wanted.scope is Scope.CLUSTER
    return is_cluster_scoped(wanted.api_group, wanted.resource)


def _is_everywhere(wanted: Attributes) -> bool:
    """Whether the question is about every namespace, but no request could be."""
    if wanted.namespace:
        return False
    if _is_namespaces(wanted):
        return wanted.verb in _OBJECT_VERBS and not wanted.name
    if _is_outside(wanted):
        return False
    return ANY in (wanted.resource, wanted.api_group) or bool(
        wanted.subresource or wanted.verb not in COLLECTION_VERBS
    )


def _decide_wide(access: Access, wanted: Attributes, *, everywhere: bool) -> Decision:
    if wanted.resource == ANY and wanted.subresource in _BY_NAME_ONLY:
        return Decision(False, "nodes/proxy and serviceaccounts/token are allowed by name only")
    for rule in (rule for one in access.sets for rule in one.deny.rules):
        if touches(rule, wanted, everywhere=everywhere) and _may_mean(rule, wanted.name):
            return Decision(False, f"{rule.label}, denies a part of it", rule.label)
    for rule in (rule for one in access.sets for rule in one.allow.rules):
        if not (rule.permits(wanted) and rule.covers_name(wanted.name)):
            continue
        if _covers(rule, wanted, everywhere=everywhere):
            return Decision(True, f"allowed by {rule.label}", rule.label)
    where = "in all namespaces" if everywhere else "as a whole"
    if wanted.guarded:
        where += f", naming the API group {wanted.api_group}, which gives away the cluster"
    return Decision(False, f"no role allows it {where} ({access.role_names()})")


def _may_mean(rule: CompiledRule, name: str) -> bool:
    return not name or any(map(rule.covers_name, (name, *name.split(":"))))


def _covers(rule: CompiledRule, wanted: Attributes, *, everywhere: bool) -> bool:
    """`*` as a namespace is matched by the glob `*` alone."""
    if not everywhere:
        return rule.covers_namespace(wanted.namespace)
    if rule.covers_namespace(ANY):
        return True
    # Perhaps outside namespaces: then [""] is enough, where the resource is spelled out.
    kind = (wanted.api_group, wanted.resource, wanted.subresource)
    unknown = wanted.place is Scope.UNKNOWN
    return unknown and rule.covers_namespace("") and rule.resources.spell_out(*kind)


def _answer_path(access: Access, wanted: Attributes) -> Decision:
    if wanted.verb not in HTTP_METHODS:
        return Decision(True, "mk8s leaves this verb to the cluster")
    if wanted.path.endswith(ANY):
        for rule in (rule for one in access.sets for rule in one.deny.path_rules):
            verbs = rule.spec.verbs
            meant = wanted.verb in verbs or ANY in verbs or wanted.verb == "head"
            if meant and any(meet(url, wanted.path) for url in rule.spec.non_resource_urls):
                return Decision(False, f"{rule.label}, denies a part of it", rule.label)
    return access.decide(wanted)


def meet(first: str, second: str) -> str:
    """The paths that two nonResourceURLs (each may end in `*`) have in common, "" if none."""
    if first == second or (second.endswith(ANY) and first.startswith(second[:-1])):
        return first
    if first.endswith(ANY) and second.startswith(first[:-1]):
        return second
    return ""


def _answer_impersonation(access: Access, wanted: Attributes) -> Decision:
    """As the handler chain judges `kubectl --as`: a uid or extra value comes with any user."""
    if wanted.name.casefold().startswith(_RESERVED):
        return Decision(False, "nobody acts as system:* or mk8s:* users or groups through mk8s")
    if wanted.resource in ("uids", "userextras"):
        rules = [rule for one in access.sets for rule in one.allow.impersonations]
        if any(rule.spec.impersonate_users for rule in rules):
            return Decision(True, "a uid or extra value comes with an allowed user")
    return access.decide(Attributes("impersonate", resource=wanted.resource, name=wanted.name))
