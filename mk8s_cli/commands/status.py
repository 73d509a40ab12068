"""`mk8s status`: who you are, token life, current cluster, what you may do there, agent health.

Called through `mk8s_cli.command_table`.
"""

import time
from typing import Any

import click

from mk8s_cli.central.api import (
    Central,
    Cluster,
    Delegated,
    Document,
    delegated,
    text,
    texts,
)
from mk8s_cli.commands.clusters import labels_of
from mk8s_cli.commands.options import chosen_central
from mk8s_cli.kubeconfig import contexts
from mk8s_cli.kubeconfig import files as kubeconfig_files
from mk8s_cli.login import access_tokens, config, service_token
from mk8s_cli.login.config import Profile
from mk8s_cli.terminal.errors import CliError
from mk8s_cli.terminal.output import age, document, format_option, left, moment
from mk8s_cli.terminal.progress import waiting
from mk8s_cli.terminal.screen import escape
from mk8s_cli.terminal.table import table

RULE_COLUMNS = ("role", "effect", "verbs", "resources", "namespaces", "names")


@click.command(epilog="Example: mk8s status -o yaml")
@format_option("table", "json", "yaml")
def status(form: str) -> None:
    """Show who you are, what you may do on the current cluster and how its agent is."""
    problem = _kubeconfig_problem()
    central = chosen_central()
    known = config.profile_for(central) if problem else contexts.profile_in_use(central)
    with waiting("asking central"):
        facts = gather(known, readable=problem is None)
    if form != "table":
        document(form, facts)
    else:
        _print(facts)
    if problem is not None:  # behind what is good to know all the same
        raise problem


def _kubeconfig_problem() -> CliError | None:
    """Return why the kubeconfig cannot be read; the login does not depend on it."""
    try:
        kubeconfig_files.read()
    except CliError as error:
        return error
    return None


def gather(known: Profile, *, readable: bool) -> Document:
    """Return all facts as one document.

    Args:
        known: whose.
        readable: whether the kubeconfig says which cluster is meant; else the one chosen last is.
    """
    central = access_tokens.connect(known)
    about = central.whoami()
    token = access_tokens.access_token(known, "")  # the one that was good just now
    user = about.get("user")
    facts: Document = {
        "central": known.central,
        "user": text(user, "email") if isinstance(user, dict) else known.email,
        "roles": list(texts(about, "roles")),
        "admin": about.get("admin") is True,
        "login": _login_facts(about.get("login")),
        "delegate": _delegation(delegated(about)) if text(about, "delegate") else None,
        "delegations": _delegations(central, about),
        "token_seconds": access_tokens.seconds_left(token),
        "clock_skew_seconds": round(central.transport.clock_skew),
        "cluster": None,
    }
    clusters = {cluster.name: cluster for cluster in central.clusters()}
    facts["clusters"] = sorted(clusters)
    context, name = _current(known) if readable else ("", known.cluster)
    if name:
        facts["cluster"] = _cluster_facts(central, context, name, clusters.get(name))
    return facts


def _login_facts(login: object) -> Document | None:
    """Return what central says of the login; None if it is older and says nothing."""
    if not isinstance(login, dict):
        return None
    return {name: text(login, name) for name in ("source", "client", "opened_at", "ends_at")}


def _delegations(central: Central, about: Document) -> list[Document]:
    """Return the open delegations of a person."""
    login = about.get("login")
    source = text(login, "source") if isinstance(login, dict) else "service_token"
    if source in {"service_token", "delegation"}:  # neither delegates
        return []
    return [{"id": it.id, "ends_at": it.ends_at, **_delegation(it)} for it in central.delegations()]


def _delegation(found: Delegated) -> Document:
    """Return what a delegation is called and may do."""
    narrowing = {part: list(words) for part, words in found.narrowing.items()}
    return {"name": found.delegate, "allowed": found.allowed, "narrowing": narrowing}


def _current(known: Profile) -> tuple[str, str]:
    """Return context and cluster in use: kubectl's current one if ours, else that of `mk8s use`."""
    try:
        kubeconfig = kubeconfig_files.read()
    except (CliError, OSError):
        if not service_token.in_use():
            raise
        return "", ""  # a job that has no home has no kubeconfig either
    place = contexts.current(kubeconfig, config.load(), known.central)
    return (place.context, place.cluster) if place is not None else ("", known.cluster)


def _cluster_facts(central: Central, context: str, name: str, cluster: Cluster | None) -> Document:
    if cluster is None:
        return {
            "name": name,
            "context": context,
            "status": "not yours (any more)",
            "permissions": [],
        }
    return {
        "name": name,
        "context": context,
        "status": cluster.status,
        "agents": cluster.document.get("agents"),
        "agent_version": text(cluster.document, "agent_version"),
        "kubernetes_version": text(cluster.document, "kubernetes_version"),
        "last_seen": text(cluster.document, "last_seen"),
        "labels": labels_of(cluster.document),
        "alert": text(cluster.document, "alert"),
        "permissions": central.permissions(name),
    }


def _print(facts: Document) -> None:
    from mk8s_cli.central.transport import CLOCK_SECONDS

    lines = [
        ("central", facts["central"]),
        ("user", facts["user"] + (" (administrator)" if facts["admin"] else "")),
        ("roles", ", ".join(facts["roles"]) or "none"),
    ]
    skew = facts["clock_skew_seconds"]
    lines += _login_lines(facts, time.time() - skew)
    lines += _delegation_lines(facts, time.time() - skew)
    lines.append(("clusters", ", ".join(facts["clusters"]) or "none"))
    if abs(skew) > CLOCK_SECONDS:
        lines.append(("clock", f"{skew:+d} s from central's: set the clock right"))
    cluster = facts["cluster"]
    if cluster:
        # By central's clock, as the moment is.
        lines += _cluster_lines(cluster, time.time() - skew)
    else:
        lines.append(("cluster", "none chosen: mk8s use NAME"))
    for name, value in lines:
        click.echo(f"{name + ':':<13}{escape(value)}")
    if cluster and cluster["permissions"]:
        click.echo("\nyou may:")
        table(RULE_COLUMNS, [_rule(rule) for rule in cluster["permissions"]])


def _login_lines(facts: Document, now: float) -> list[tuple[str, str]]:
    """Until when one is logged in; what is renewed by itself comes after it."""
    token = ("token", f"{facts['token_seconds']} s left, renewed by itself")
    login = facts["login"]
    if login is None:
        return [token]
    by, ends = login["source"].replace("_", " "), login["ends_at"]
    line = ("login", f"by {by}, valid until {moment(ends)} ({left(ends, now)} left)")
    is_job = login["source"] in {"service_token", "federation"}
    return [line] if is_job else [line, token]


def _delegation_lines(facts: Document, now: float) -> list[tuple[str, str]]:
    """To whom one has delegated, or as whose delegate one is here."""
    own = facts["delegate"]
    if own is not None:
        return [("delegate", f"{own['name']}, for {facts['user']}: {own['allowed']}")]
    return [
        ("delegated", f"to {it['name']} ({left(it['ends_at'], now)} left): {it['allowed']}")
        for it in facts["delegations"]
    ]


def _cluster_lines(cluster: Document, now: float) -> list[tuple[str, str]]:
    lines = [("cluster", f"{cluster['name']} (context {cluster['context'] or 'not written yet'})")]
    agent = cluster["status"] or "unknown"
    for name, key in (("agents", "agents"), ("version", "agent_version")):
        value = cluster.get(key)
        agent += f", {name} {value}" if value not in {None, ""} else ""
    if seen := text(cluster, "last_seen"):
        agent += f", seen {age(seen, now)} ago"
    lines.append(("agent", agent))
    if cluster.get("kubernetes_version"):
        lines.append(("kubernetes", cluster["kubernetes_version"]))
    if cluster.get("alert"):
        lines.append(("alert", cluster["alert"]))
    return lines


def _rule(rule: dict[str, Any]) -> tuple[str, ...]:
    listed = {
        key: ",".join(texts(rule, key)) for key in ("verbs", "resources", "namespaces", "names")
    }
    resources = listed["resources"] or ",".join(texts(rule, "nonResourceURLs"))
    effect = "deny" if rule.get("deny") is True else "allow"
    return (
        text(rule, "role"),
        effect,
        listed["verbs"],
        resources,
        listed["namespaces"],
        listed["names"],
    )
