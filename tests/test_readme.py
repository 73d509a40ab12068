"""The README tells the truth: every setting is in it, its commands are the ones that are run."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from mk8s_agent.settings import Settings as AgentSettings
from mk8s_cli import command_table
from mk8s_proxy.settings.load import environment_variables
from mk8s_proxy.settings.model import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text()


def row_of(place: str, chapter: str = "### Central") -> str:
    """The README's table row for one setting."""
    text = README[README.index("## Configuration\n") :]
    text = text[text.index(f"{chapter}\n") :]
    found = re.search(rf"^\| `{re.escape(place)}` \|.*$", text, re.MULTILINE)
    assert found, f"{place} is not in the README's table"
    return found[0]


@pytest.mark.parametrize("place", sorted(environment_variables()))
def test_every_setting_of_central_is_documented(place: str) -> None:
    assert f"`{environment_variables()[place]}`" in row_of(place)


def defaults(owner: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(owner):
        if entry.default_factory is not dataclasses.MISSING:
            found |= defaults(entry.default_factory, f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = entry.default
    return found


FIXED = {place: value for place, value in defaults(Settings).items() if value and value != Path()}


@pytest.mark.parametrize("place", sorted(FIXED))
def test_documented_defaults_are_the_real_ones(place: str) -> None:
    assert f"| `{FIXED[place]}` |" in row_of(place)


def test_no_setting_is_documented_that_does_not_exist() -> None:
    documented = set(re.findall(r"^\| `[^`]+` \| `(MK8S_[A-Z_]+)` \|", README, re.MULTILINE))
    central = set(environment_variables().values())
    assert {name for name in documented if not name.startswith("MK8S_AGENT_")} == {
        name for name in central if not name.startswith("MK8S_AGENT_")
    }


@pytest.mark.parametrize("name", [entry.name for entry in dataclasses.fields(AgentSettings)])
def test_every_setting_of_the_agent_is_documented(name: str) -> None:
    assert f"`MK8S_AGENT_{name.upper()}`" in row_of(name, "### Agent")


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of the CLI with its whole name."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


CLI = dict(commands(command_table.mk8s, "mk8s"))


def cli_row_of(name: str) -> str:
    """The README's row for one command; `admin` commands of one group share theirs."""
    group, _, last = name.rpartition(" ")
    rows = [line for line in README.splitlines() if line.startswith("| `mk8s ")]
    own = [row for row in rows if re.search(rf"`{re.escape(name)}[ `]", row)]
    shared = [row for row in rows if row.startswith(f"| `{group} ") and f"`{last}`" in row]
    assert own or shared, f"{name} is not in the README's table"
    return (own or shared)[0]


@pytest.mark.parametrize("name", sorted(CLI))
def test_every_command_of_the_cli_is_documented_with_its_options(name: str) -> None:
    row = cli_row_of(name)
    for parameter in CLI[name].params:
        if isinstance(parameter, click.Option):
            assert any(f"`{word}" in row for word in parameter.opts), parameter.opts


@pytest.mark.parametrize(
    "title",
    ["Quick start", "Installation", "Configuration", "Usage", "Security model", "Operations",
     "Development"],
)  # fmt: skip
def test_every_section_is_there(title: str) -> None:
    assert f"\n## {title}\n" in README


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^    (python3 -m venv .*tox)$", README, re.MULTILINE)
    assert len(commands) == 1
    pattern = re.search(r"sed -n '(s/.*/p)' README\.md", (CHECKOUT / ".ci/run").read_text())
    assert pattern, "the command of .ci/run is the README's own"
