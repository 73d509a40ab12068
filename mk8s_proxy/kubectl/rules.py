"""Which commands central runs for callers, and which flags each of them may have.

An allow list: what is not here is refused, so is what a newer kubectl brings. `NOT_FLAGS` and
`NOT_COMMANDS` only say why. A test holds both against `flags.json`: each flag of a command that is
run is decided on in one of them.

What is let through reaches the cluster by the handler chain alone, so policy decides on it. What is
refused would read or write files of central, run programs there, send the caller's token somewhere
else, want a terminal, or show what no caller should see.
"""

import re
from collections.abc import Mapping
from typing import Final

from mk8s_proxy.kubectl.refusal import CommandRefused, shown
from mk8s_proxy.kubectl.table import Words

RAW: Final = "raw"
SET_ENV: Final = ("set", "env")
SECRET: Final = frozenset(
    ("docker-email", "docker-password", "docker-username", "env", "from-literal", "overrides",
     "patch")
)  # fmt: skip
"""Flags whose values are not written down."""
LOUDEST: Final = 5
"""The highest -v: beyond it, kubectl prints headers and bodies of requests."""

EVERYWHERE: Final = (
    "as as-group as-uid as-user-extra disable-compression match-server-version namespace "
    "request-timeout v warnings-as-errors"
)
_PRINT: Final = "allow-missing-template-keys output show-managed-fields template"
_STDIN: Final = "filename recursive"
_CREATE: Final = f"{_PRINT} dry-run field-manager save-config validate"
_DELETE: Final = "cascade force grace-period timeout wait"
_SET: Final = f"{_PRINT} {_STDIN} all dry-run field-manager"
_MARK: Final = f"{_SET} all-namespaces field-selector list overwrite resource-version selector"
_ROLLOUT: Final = f"{_PRINT} {_STDIN} selector"

COMMANDS: Final[Mapping[str, str]] = {
    "annotate": _MARK,
    "api-resources": "api-group cached categories namespaced no-headers output "
    "show-managed-fields sort-by verbs",
    "api-versions": "",
    "apply": f"{_PRINT} {_STDIN} {_DELETE} all dry-run field-manager force-conflicts openapi-patch "
    "overwrite prune prune-allowlist selector server-side subresource validate",
    "auth can-i": "all-namespaces list no-headers quiet subresource",
    "auth reconcile": f"{_PRINT} {_STDIN} dry-run remove-extra-permissions remove-extra-subjects",
    "auth whoami": _PRINT,
    "autoscale": f"{_PRINT} {_STDIN} cpu cpu-percent dry-run field-manager max memory min name "
    "save-config",
    "certificate approve": f"{_PRINT} {_STDIN} force",
    "certificate deny": f"{_PRINT} {_STDIN} force",
    "cluster-info": "",
    "cluster-info dump": f"{_PRINT} all-namespaces namespaces pod-running-timeout",
    "cordon": "dry-run selector",
    "create": f"{_CREATE} {_STDIN} raw selector",
    "create clusterrole": f"{_CREATE} aggregation-rule non-resource-url resource resource-name "
    "verb",
    "create clusterrolebinding": f"{_CREATE} clusterrole group serviceaccount user",
    "create configmap": f"{_CREATE} append-hash from-literal",
    "create cronjob": f"{_CREATE} image restart schedule",
    "create deployment": f"{_CREATE} image port replicas",
    "create ingress": f"{_CREATE} annotation class default-backend rule",
    "create job": f"{_CREATE} from image",
    "create namespace": _CREATE,
    "create poddisruptionbudget": f"{_CREATE} max-unavailable min-available selector",
    "create priorityclass": f"{_CREATE} description global-default preemption-policy value",
    "create quota": f"{_CREATE} hard scopes",
    "create role": f"{_CREATE} resource resource-name verb",
    "create rolebinding": f"{_CREATE} clusterrole group role serviceaccount user",
    "create secret docker-registry": f"{_CREATE} append-hash docker-email docker-password "
    "docker-server docker-username",
    "create secret generic": f"{_CREATE} append-hash from-literal type",
    "create service clusterip": f"{_CREATE} clusterip tcp",
    "create service externalname": f"{_CREATE} external-name tcp",
    "create service loadbalancer": f"{_CREATE} tcp",
    "create service nodeport": f"{_CREATE} node-port tcp",
    "create serviceaccount": _CREATE,
    "create token": f"{_PRINT} audience bound-object-kind bound-object-name bound-object-uid "
    "duration",
    "debug": "filename arguments-only attach container env image image-pull-policy profile quiet "
    "stdin target",
    "delete": f"{_STDIN} {_DELETE} all all-namespaces dry-run field-selector ignore-not-found now "
    "output raw selector",
    "describe": f"{_STDIN} all-namespaces chunk-size selector show-events",
    "drain": "chunk-size delete-emptydir-data disable-eviction dry-run force grace-period "
    "ignore-daemonsets pod-selector selector skip-wait-for-delete-timeout timeout",
    "events": f"{_PRINT} all-namespaces chunk-size for no-headers types watch",
    "exec": "filename container pod-running-timeout quiet stdin",
    "explain": "api-version max-depth output recursive",
    "expose": f"{_PRINT} {_STDIN} cluster-ip dry-run external-ip field-manager labels "
    "load-balancer-ip name override-type overrides port protocol save-config selector "
    "session-affinity target-port type",
    "get": f"{_PRINT} {_STDIN} all-namespaces chunk-size field-selector ignore-not-found "
    "label-columns no-headers output-watch-events raw selector server-print show-kind show-labels "
    "sort-by subresource watch watch-only",
    "label": _MARK,
    "logs": "all-containers all-pods container follow ignore-errors "
    "insecure-skip-tls-verify-backend limit-bytes max-log-requests pod-running-timeout prefix "
    "previous selector since since-time tail timestamps",
    "patch": f"{_PRINT} {_STDIN} dry-run field-manager patch subresource type",
    "replace": f"{_CREATE} {_STDIN} {_DELETE} raw subresource",
    "rollout history": f"{_ROLLOUT} revision",
    "rollout pause": f"{_ROLLOUT} field-manager",
    "rollout restart": f"{_ROLLOUT} field-manager",
    "rollout resume": f"{_ROLLOUT} field-manager",
    "rollout status": f"{_STDIN} revision selector timeout watch",
    "rollout undo": f"{_ROLLOUT} dry-run to-revision",
    "run": f"{_PRINT} {_STDIN} {_DELETE} annotations attach command dry-run env expose "
    "field-manager image image-pull-policy labels leave-stdin-open override-type overrides "
    "pod-running-timeout port privileged quiet restart rm save-config stdin",
    "scale": f"{_PRINT} {_STDIN} all current-replicas dry-run replicas resource-version selector "
    "timeout",
    "set env": f"{_SET} containers env from keys list overwrite prefix resolve selector",
    "set image": f"{_SET} selector",
    "set resources": f"{_SET} containers limits requests selector",
    "set selector": f"{_SET} resource-version",
    "set serviceaccount": _SET,
    "set subject": f"{_SET} group selector serviceaccount user",
    "taint": f"{_PRINT} all dry-run field-manager overwrite selector validate",
    "top node": "no-headers selector show-capacity show-swap sort-by use-protocol-buffers",
    "top pod": "all-namespaces containers field-selector no-headers selector show-swap sort-by sum "
    "use-protocol-buffers",
    "uncordon": "dry-run selector",
    "version": "client output",
    "wait": f"{_PRINT} {_STDIN} all all-namespaces field-selector for selector timeout",
}
"""The flags that each command may have, beside those that every one may."""

_CONNECTS: Final = "central connects kubectl itself, to this cluster and as you"
_FILES: Final = "it names a file of central; send what is in it as stdin or in the command"
_TERMINAL: Final = "there is no terminal"
_COPY: Final = "pods are not copied here; debug the running one, or a node"

NOT_FLAGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("certificate-authority", "client-certificate", "client-key", "cluster", "context",
         "insecure-skip-tls-verify", "kubeconfig", "kuberc", "password", "proxy-url", "server",
         "tls-server-name", "token", "user", "username"), _CONNECTS),
    **dict.fromkeys(
        ("cache-dir", "cert", "custom", "from-env-file", "from-file", "key", "kustomize",
         "output-directory", "patch-file"), _FILES),
    **dict.fromkeys(
        ("log-flush-frequency", "profile", "profile-output", "vmodule"),
        "it is for those who look for mistakes in kubectl"),
    **dict.fromkeys(("detach-keys", "interactive", "tty"), _TERMINAL),
    **dict.fromkeys(("edit", "windows-line-endings"), "there is no editor"),
    **dict.fromkeys(
        ("copy-to", "keep-annotations", "keep-init-containers", "keep-labels", "keep-liveness",
         "keep-readiness", "keep-startup", "replace", "same-node", "set-image", "share-processes"),
        _COPY),
    "local": "it asks no cluster; run it where you are",
}  # fmt: skip
"""Why a flag is refused."""

NOT_COMMANDS: Final[Mapping[str, str]] = {
    "apply edit-last-applied": "there is no editor",
    "apply set-last-applied": "it is about what kubectl noted, not about the object; use apply",
    "apply view-last-applied": "it is about what kubectl noted, not about the object; use get",
    "attach": f"{_TERMINAL}; use logs, or exec",
    "completion": "it is for a shell",
    "config": "there is no kubeconfig of yours here",
    "cp": "it reads and writes files of central; use exec with tar, or mk8s with your own kubectl",
    "create secret tls": _FILES,
    "diff": "it runs another program; use apply with --dry-run=server",
    "edit": "there is no editor; use patch, or replace -f -",
    "kuberc": "there are no preferences of yours here",
    "kustomize": "it reads folders of central; send what it builds as stdin",
    "plugin": "plugins are not run",
    "port-forward": "a request cannot carry it; use your own kubectl with mk8s",
    "proxy": "a request cannot carry it; use your own kubectl with mk8s",
}
"""Why a command is refused, with all that is below it."""

FORMATS: Final = frozenset(
    ("", "custom-columns", "go-template", "json", "jsonpath", "jsonpath-as-json", "kyaml", "name",
     "plaintext", "plaintext-openapiv2", "template", "wide", "yaml")
)  # fmt: skip
"""Of --output; those that end with -file read one."""
PROFILES: Final = frozenset(
    ("auto", "baseline", "general", "legacy", "netadmin", "restricted", "sysadmin")
)
"""Of `debug --profile`; the flag of that name of all other commands writes a file."""
_RAW_PATH: Final = re.compile(r"/(?!/)[!-~]*")
_DOTS: Final = re.compile(r"/(?:\.|%2e){1,2}(?:[/?;]|%2f|$)", re.IGNORECASE)
"""A segment that leads out of the cluster's part of central, however kubectl reads it."""

_BY_COMMAND: Final[Mapping[Words, frozenset[str]]] = {
    tuple(words.split()): frozenset(f"{flags} {EVERYWHERE}".split())
    for words, flags in COMMANDS.items()
}


def rule_of(words: Words) -> frozenset[str]:
    """The flags that a command may have.

    Raises:
        CommandRefused: it is not run for callers.
    """
    rule = _BY_COMMAND.get(words)
    if rule is not None:
        return rule
    name = " ".join(words)
    for length in range(len(words), 0, -1):
        if why := NOT_COMMANDS.get(" ".join(words[:length])):
            raise CommandRefused(f"kubectl {name} is not run here: {why}")
    raise CommandRefused(f'"{name}" is not a whole command: say what kubectl is to do')


def why_not(words: Words, name: str) -> str:
    """Why a command may not have a flag."""
    return NOT_FLAGS.get(name, "it is not among the flags that were looked at")


def problem_of(words: Words, name: str, value: str) -> str:
    """What is wrong with the value of a flag that a command may have; "" for nothing."""
    if name == "filename" and value != "-":
        return "only - is taken; send the objects as stdin"
    if name == "output" and value.partition("=")[0] not in FORMATS:
        return f'"{shown(value)}" is no format that is written here'
    if name == RAW and (
        not _RAW_PATH.fullmatch(value) or "#" in value or "\\" in value or _DOTS.search(value)
    ):
        return "only a path is taken, as in /apis/apps/v1"
    if name == "v" and value not in map(str, range(LOUDEST + 1)):
        return f"a number up to {LOUDEST}"
    if name == "profile" and value not in PROFILES:
        return f"one of {', '.join(sorted(PROFILES))}"
    return ""
