"""People with roles of their own, added to a running world by its administrator."""

from typing import Any

import yaml

from tests.support.world import PASSWORDS, Person, World

Rules = list[dict[str, Any]]


def enrol(world: World, name: str, rules: Rules) -> Person:
    """Somebody new, logged in, with one role of these rules and prod as the current context."""
    admin = world.people["admin"]
    grant(world, name, rules)
    email = f"{name}@example.com"
    PASSWORDS[email] = f"the long password of {name}"
    first = ("--password-stdin", "--no-must-change")
    command = ("admin", "users", "add", email, "--role", name, *first)
    admin.mk8s(*command, stdin=f"{PASSWORDS[email]}\n")
    person = world.log_in(email)
    person.use("prod")
    return person


def grant(world: World, role: str, rules: Rules) -> None:
    """Make or replace a role."""
    path = world.folder / f"{role}.yaml"
    path.write_text(yaml.safe_dump({"name": role, "clusters": rules}))
    world.people["admin"].mk8s("admin", "roles", "apply", "-f", str(path))
