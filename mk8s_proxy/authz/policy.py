"""The policy language: roles and users as people write them, checked and made into values.

`parse_rbac` reads a whole RBAC file, `parse_role` one role (of the database or the management
API). Both take what a YAML or JSON parser returned, and name the place of a mistake:
`roles[0].clusters[1].verbs[2]: unknown verb "gets": did you mean "get"?`. An unknown key is a
mistake: a misspelt `deny` must not become a grant. The package docstring has the meaning.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from mk8s_proxy.authz.grammar import (
    Place,
    PolicyError,
    check_email,
    check_glob,
    check_group_name,
    check_label_key,
    check_resource,
    check_role_name,
    check_url_path,
    check_verb,
)
from mk8s_proxy.authz.role_limits import NO_LIMITS, RoleLimits, parse_limits

__all__ = [
    "GroupSpec", "PolicyError", "PolicySource", "RbacDocument", "RoleSpec", "RuleSpec", "UserSpec",
    "parse_group_name", "parse_rbac", "parse_role",
]  # fmt: skip

BUILT_IN_ROLES: Final = frozenset({"admin"})
"""Roles that a user may have without the file defining them."""

_FIELDS: Final = {
    "namespaces": "namespaces",
    "verbs": "verbs",
    "resources": "resources",
    "names": "names",
    "nonResourceURLs": "non_resource_urls",
}


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One item of a role's `clusters:` list."""

    cluster: str = ""
    """Glob of the cluster's name; empty if the labels alone select."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels that the cluster must have; the values are globs."""
    namespaces: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Empty: all objects, named or not."""
    non_resource_urls: tuple[str, ...] = ()
    deny: bool = False
    impersonate_users: tuple[str, ...] = ()
    impersonate_groups: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Write the rule as `parse_role` reads it."""
        written: dict[str, Any] = {"name": self.cluster} if self.cluster else {}
        if self.labels:
            written["labels"] = dict(self.labels)
        for key, attribute in _FIELDS.items():
            if values := getattr(self, attribute):
                written[key] = list(values)
        if self.deny:
            written["deny"] = True
        whom = {"users": list(self.impersonate_users), "groups": list(self.impersonate_groups)}
        if self.impersonate_users or self.impersonate_groups:
            written["impersonate"] = {kind: names for kind, names in whom.items() if names}
        return written


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """A role: what whoever holds it may do, and may not."""

    name: str
    rules: tuple[RuleSpec, ...]
    limits: RoleLimits = NO_LIMITS

    def document(self) -> list[dict[str, Any]]:
        """Write the role's `clusters:` list."""
        return [rule.document() for rule in self.rules]


@dataclass(frozen=True, slots=True)
class UserSpec:
    """A user of an RBAC file."""

    email: str
    """In lower case."""
    roles: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group of an RBAC file."""

    name: str
    """With ":" for one of an issuer."""
    roles: tuple[str, ...]
    members: tuple[str, ...] | None = None
    """Email addresses in lower case; None where the file leaves them as they are."""


@dataclass(frozen=True, slots=True)
class RbacDocument:
    """An RBAC file."""

    roles: tuple[RoleSpec, ...]
    users: tuple[UserSpec, ...]
    groups: tuple[GroupSpec, ...] = ()


@dataclass(frozen=True)
class PolicySource:
    """Everything that decides about access, as the database has it."""

    roles: list[RoleSpec] = field(default_factory=list)
    user_roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Role names of each user, by email in lower case."""
    clusters: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels of each cluster, by name."""
    user_clusters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Globs of the only clusters where the roles of a user count; of all for those not in here."""
    group_roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Role names of each group that logins bring; what groups of mk8s give is in `user_roles`."""
    told_groups: tuple[str, ...] = ()
    """Globs of the groups of logins by which clusters, too, know who asks."""
    locked_clusters: dict[str, str] = field(default_factory=dict)
    """Clusters that nobody reaches, by name, and what those with a right there are told."""
    locked_roles: dict[str, str] = field(default_factory=dict)
    """Roles that give nothing and deny what they denied, and what those who have them are told."""


def parse_rbac(document: object, *, known_roles: Iterable[str] = BUILT_IN_ROLES) -> RbacDocument:
    """Read an RBAC file.

    Args:
        document: what the YAML parser returned.
        known_roles: roles that may be given although the file does not define them.

    Raises:
        PolicyError: the first mistake, with its place.
    """
    top = Place(document)
    top.only_keys("roles", "users", "groups")
    roles: dict[str, RoleSpec] = {}
    for place in top.optional("roles").items():
        role = _parse_role(place)
        if role.name in roles:
            raise place.key("name").error(f'the role "{role.name}" is defined twice')
        roles[role.name] = role
    known = {*roles, *known_roles}
    users: dict[str, UserSpec] = {}
    for place in top.optional("users").items():
        user = _parse_user(place, known)
        if user.email in users:
            raise place.key("email").error(f'the user "{user.email}" is listed twice')
        users[user.email] = user
    groups: dict[str, GroupSpec] = {}
    for place in top.optional("groups").items():
        group = _parse_group(place, known)
        if group.name in groups:
            raise place.key("name").error(f'the group "{group.name}" is listed twice')
        groups[group.name] = group
    return RbacDocument(tuple(roles.values()), tuple(users.values()), tuple(groups.values()))


def parse_group_name(name: str) -> str:
    """Read the name of a group.

    Raises:
        PolicyError: it is none.
    """
    return check_group_name(Place(name, "name"))


def parse_role(name: str, rules: object, limits: object = MappingProxyType({})) -> RoleSpec:
    """Read one role from its name, its `clusters:` list and its `limits:`.

    Raises:
        PolicyError: the first mistake, with its place ("clusters[1].verbs[2]").
    """
    written = dict(limits) if isinstance(limits, Mapping) else limits
    return RoleSpec(
        check_role_name(Place(name, "name")),
        _parse_rules(Place(rules, "clusters")),
        parse_limits(Place(written, "limits")),
    )


def _parse_role(place: Place) -> RoleSpec:
    place.only_keys("name", "clusters", "limits")
    return RoleSpec(
        check_role_name(place.key("name")),
        _parse_rules(place.key("clusters")),
        parse_limits(place.key("limits")) if place.has("limits") else NO_LIMITS,
    )


def _parse_user(place: Place, known_roles: set[str]) -> UserSpec:
    place.only_keys("email", "roles", "name")
    roles = _parse_given_roles(place, known_roles)
    name = place.optional("name", "").text(empty=True)
    return UserSpec(check_email(place.key("email")), roles, name)


def _parse_group(place: Place, known_roles: set[str]) -> GroupSpec:
    place.only_keys("name", "roles", "members")
    name = check_group_name(place.key("name"))
    roles = _parse_given_roles(place, known_roles)
    if not place.has("members"):
        return GroupSpec(name, roles)
    if ":" in name:
        raise place.key("members").error("who is in a group of an issuer is the issuer's word")
    members = [check_email(item) for item in place.key("members").items()]
    return GroupSpec(name, roles, tuple(dict.fromkeys(members)))


def _parse_given_roles(place: Place, known_roles: set[str]) -> tuple[str, ...]:
    roles = []
    for item in place.key("roles").items():
        role = item.text()
        if role not in known_roles:
            raise item.error(f'there is no role "{role}"{item.nearest(role, known_roles)}')
        roles.append(role)
    return tuple(dict.fromkeys(roles))


def _parse_rules(place: Place) -> tuple[RuleSpec, ...]:
    rules = tuple(_parse_rule(item) for item in place.items())
    if not rules:
        raise place.error("must have at least one rule")
    return rules


def _parse_rule(place: Place) -> RuleSpec:
    place.only_keys("name", "labels", "deny", "impersonate", *_FIELDS)
    rule = RuleSpec(
        cluster=check_glob(place.key("name")) if place.has("name") else "",
        labels=_parse_labels(place.key("labels")) if place.has("labels") else (),
        namespaces=tuple(check_glob(i, empty=True) for i in place.optional("namespaces").items()),
        verbs=tuple(check_verb(item) for item in place.optional("verbs").items()),
        resources=tuple(check_resource(item) for item in place.optional("resources").items()),
        names=tuple(check_glob(item) for item in place.optional("names").items()),
        non_resource_urls=tuple(
            check_url_path(item) for item in place.optional("nonResourceURLs").items()
        ),
        deny=place.optional("deny", False).flag(),
        impersonate_users=_parse_impersonation(place, "users"),
        impersonate_groups=_parse_impersonation(place, "groups"),
    )
    _check_rule(place, rule)
    return rule


def _parse_labels(place: Place) -> tuple[tuple[str, str], ...]:
    labels = tuple(
        (check_label_key(place, key), check_glob(place.key(key), empty=True))
        for key in sorted(place.mapping())
    )
    if not labels:
        raise place.error("must name at least one label, or be left out")
    return labels


def _parse_impersonation(rule: Place, kind: str) -> tuple[str, ...]:
    if not rule.has("impersonate"):
        return ()
    place = rule.key("impersonate")
    place.only_keys("users", "groups")
    return tuple(check_glob(item) for item in place.optional(kind).items())


def _check_rule(place: Place, rule: RuleSpec) -> None:
    """Check what concerns several keys: no rule may mean less, or more, than it seems to."""
    impersonation = bool(rule.impersonate_users or rule.impersonate_groups)
    if not (rule.cluster or rule.labels):
        raise place.error('needs "name" (a glob) or "labels" to select clusters')
    if place.has("impersonate") and not impersonation:
        raise place.key("impersonate").error('must say whom: {users: ["ci@example.com"]}')
    if not (rule.resources or rule.non_resource_urls or impersonation):
        raise place.error('needs "resources", "nonResourceURLs" or "impersonate"')
    if rule.resources and not rule.namespaces:
        raise place.key("namespaces").error('must not be empty: write ["*"] for all')
    if rule.namespaces and not rule.resources:
        raise place.key("resources").error("must not be empty beside namespaces")
    if (rule.resources or rule.non_resource_urls) and not rule.verbs:
        raise place.key("verbs").error('must not be empty: write ["*"] for all')
    if place.has("names") and not (rule.names and rule.resources):
        raise place.key("names").error("must name objects of resources, or be left out")
    if "impersonate" in rule.verbs and not impersonation:
        raise place.error('the verb "impersonate" needs "impersonate" beside it to say whom')
    _check_verbs(place, rule)


def _check_verbs(place: Place, rule: RuleSpec) -> None:
    """HTTP methods belong to nonResourceURLs; a rule of resources with `post` would do nothing."""
    for item in place.optional("verbs").items():
        verb = item.text()
        if verb in ("post", "put", "head") and not rule.non_resource_urls:
            meant = {"post": "create", "put": "update", "head": "get"}[verb]
            raise item.error(f'"{verb}" is an HTTP method: for resources write "{meant}"')
