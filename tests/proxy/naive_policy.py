"""The policy language, evaluated in the slowest and plainest way: rule by rule, no index, no cache.

Written from the docstring of mk8s_proxy.authz; the compiled policy must agree with it.
"""

from mk8s_proxy.authz.attributes import Attributes
from mk8s_proxy.authz.policy import PolicySource, RuleSpec
from mk8s_proxy.authz.scopes import Scope, scope_of

VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
WORD_SUBRESOURCES = {
    "logs": ["pods/log"],
    "exec": ["pods/exec", "pods/attach"],
    "portforward": ["pods/portforward"],
    "proxy": ["pods/proxy", "services/proxy", "nodes/proxy"],
}
WORD_VERBS = {
    "logs": ["get"],
    "exec": ["get", "create"],
    "portforward": ["get", "create"],
    "proxy": ["get", "create", "update", "patch", "delete"],
}
COLLECTION = ["list", "watch", "deletecollection"]
SPELLED_OUT = ["nodes/proxy", "serviceaccounts/token"]
OPEN_PATHS = ["/", "/api", "/api/", "/apis", "/apis/", "/version", "/version/", "/healthz",
              "/livez", "/readyz"]  # fmt: skip


def glob(pattern: str, text: str) -> bool:
    """Match by trying every length for every star."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(glob(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and glob(pattern[1:], text[1:])


def some_glob(patterns: tuple[str, ...], text: str) -> bool:
    return any(glob(pattern, text) for pattern in patterns)


def lists(rule: RuleSpec, group: str, resource: str, subresource: str, *, literally: bool) -> bool:
    for written in rule.resources:
        if literally and "*" in written:
            continue
        left, slash, sub = written.partition("/")
        name, dot, wanted_group = left.partition(".")
        if not dot:
            wanted_group = "*"
        if bool(slash) != bool(subresource):
            continue
        if glob(name, resource) and glob(wanted_group, group) and glob(sub, subresource):
            return True
    return False


def by_word(rule: RuleSpec, wanted: Attributes) -> bool:
    if wanted.api_group:
        return False
    asked = f"{wanted.resource}/{wanted.subresource}"
    return any(
        (word in rule.verbs or "*" in rule.verbs)
        and asked in subresources
        and wanted.verb in WORD_VERBS[word]
        for word, subresources in WORD_SUBRESOURCES.items()
    )


def by_verb(rule: RuleSpec, verb: str) -> bool:
    return verb in VERBS and (verb in rule.verbs or "*" in rule.verbs)


def grants(rule: RuleSpec, wanted: Attributes) -> bool:
    kind = (wanted.api_group, wanted.resource, wanted.subresource)
    word = bool(wanted.subresource) and by_word(rule, wanted)
    if not (word or by_verb(rule, wanted.verb)):
        return False
    asked = f"{wanted.resource}/{wanted.subresource}"
    secret = asked in SPELLED_OUT and not wanted.api_group
    listed = lists(rule, *kind, literally=secret)
    if word and not secret:
        listed = listed or lists(rule, *kind[:2], "", literally=False)
    if not listed or (rule.names and not some_glob(rule.names, wanted.name)):
        return False
    if wanted.namespace or any(set(glob) == {"*"} for glob in rule.namespaces):
        return some_glob(rule.namespaces, wanted.namespace)
    if "" not in rule.namespaces:
        return False
    scope = scope_of(wanted.api_group, wanted.resource)
    if wanted.verb not in COLLECTION or scope is Scope.CLUSTER:
        return True
    return scope is Scope.UNKNOWN and lists(rule, *kind, literally=True)


def forbids(rule: RuleSpec, wanted: Attributes) -> bool:
    if not (by_verb(rule, wanted.verb) or by_word(rule, wanted)):
        return False
    subresources = {"", wanted.subresource}
    return any(
        lists(rule, wanted.api_group, wanted.resource, sub, literally=False) for sub in subresources
    )


def denies(rule: RuleSpec, wanted: Attributes) -> bool:
    if not forbids(rule, wanted):
        return False
    names = [wanted.name]
    if wanted.subresource == "proxy":
        names += wanted.name.split(":")
    if rule.names and wanted.name and not any(some_glob(rule.names, name) for name in names):
        return False
    if some_glob(rule.namespaces, wanted.namespace):
        return True
    everywhere = scope_of(wanted.api_group, wanted.resource) is not Scope.CLUSTER
    everywhere = everywhere or wanted.resource == "namespaces"
    return not wanted.namespace and wanted.verb in COLLECTION and everywhere


def about_path(rule: RuleSpec, wanted: Attributes) -> bool:
    methods = ["get", "head", "post", "put", "patch", "delete"] if "*" in rule.verbs else rule.verbs
    head = wanted.verb == "head" and "get" in methods
    return (head or wanted.verb in methods) and some_glob(rule.non_resource_urls, wanted.path)


def matches(rule: RuleSpec, wanted: Attributes) -> bool:
    if not wanted.is_resource_request:
        return about_path(rule, wanted)
    if wanted.verb == "impersonate":
        whom = {"users": rule.impersonate_users, "groups": rule.impersonate_groups}
        return some_glob(whom.get(wanted.resource, ()), wanted.name)
    return denies(rule, wanted) if rule.deny else grants(rule, wanted)


def is_open(wanted: Attributes) -> bool:
    if wanted.is_resource_request:
        kinds = ["authorization.k8s.io/selfsubjectaccessreviews",
                 "authorization.k8s.io/selfsubjectrulesreviews",
                 "authentication.k8s.io/selfsubjectreviews"]  # fmt: skip
        kind = f"{wanted.api_group}/{wanted.resource}"
        return kind in kinds and (wanted.verb, wanted.subresource + wanted.namespace) == (
            "create",
            "",
        )
    known = wanted.path in OPEN_PATHS or any(
        wanted.path.startswith(prefix) for prefix in ("/api/", "/apis/", "/openapi/")
    )
    if wanted.verb == "post":
        return wanted.path in {"/api", "/api/", "/apis", "/apis/"}
    return known and wanted.verb in {"get", "head"}


def rules_of(source: PolicySource, user: str, cluster: str) -> list[tuple[str, RuleSpec]]:
    labels = source.clusters.get(cluster)
    if labels is None:
        return []
    roles = {role.name: role for role in source.roles}
    return [
        (f"role {name}, rule {number}", rule)
        for name in source.user_roles.get(user.lower(), ())
        if name in roles
        for number, rule in enumerate(roles[name].rules, start=1)
        if (not rule.cluster or glob(rule.cluster, cluster))
        and all(key in labels and glob(value, labels[key]) for key, value in rule.labels)
    ]


def is_collection(wanted: Attributes) -> bool:
    return wanted.is_resource_request and wanted.verb in COLLECTION and not wanted.subresource


def is_visible(rules: list[RuleSpec], wanted: Attributes, namespace: str, name: str) -> bool:
    """Whether rules show an object of a collection: ask each rule about that very object."""
    own = namespace or wanted.namespace
    places = {own}
    if wanted.resource == "namespaces" and not own:
        own = name
        places = {name, ""}  # who may list all of them may see each
    elif not own and scope_of(wanted.api_group, wanted.resource) is Scope.NAMESPACED:
        return False
    denied = any(
        rule.deny
        and forbids(rule, wanted)
        and some_glob(rule.namespaces, own)
        and some_glob(rule.names or ("*",), name)
        for rule in rules
    )
    kind = (wanted.api_group, wanted.resource, "")
    granted = any(
        not rule.deny
        and by_verb(rule, wanted.verb)
        and lists(rule, *kind, literally=False)
        and any(some_glob(rule.namespaces, place) for place in places)
        and some_glob(rule.names or ("*",), name)
        for rule in rules
    )
    return bool(name) and granted and not denied


def decide(
    source: PolicySource, user: str, cluster: str, wanted: Attributes
) -> tuple[bool, set[str]]:
    """Whether it is allowed as a whole, and the rules of which one must be named as deciding."""
    rules = rules_of(source, user, cluster)
    denying = {label for label, rule in rules if rule.deny and matches(rule, wanted)}
    if denying:
        return False, denying
    allowing = {label for label, rule in rules if not rule.deny and matches(rule, wanted)}
    if allowing:
        return True, allowing
    if any(not rule.deny for _, rule in rules) and is_open(wanted):
        return True, {"discovery", "self review"}
    return False, {""}
