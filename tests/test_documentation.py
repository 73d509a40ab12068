"""The pages tell the truth: settings and commands are all there, every command line works.

Command lines that can run here are run by `test_first_use.py`; all are checked word by word here.
"""

import dataclasses
import functools
import importlib.util
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from mk8s_agent.settings import environment_variables as agent_variables
from mk8s_cli import command_table
from mk8s_proxy.authz.policy import parse_rbac
from mk8s_proxy.settings.load import environment_variables, load_settings
from mk8s_proxy.settings.model import Settings
from tests.support import command_lines, kubectl
from tests.support.command_lines import CHECKOUT, CommandLine

README = (CHECKOUT / "README.md").read_text()
DOCS = CHECKOUT / "deploy" / "docs"
PAGES = [
    CHECKOUT / "README.md",
    *sorted(DOCS.glob("*.md")),
    CHECKOUT / "certs" / "README.md",
    *sorted((CHECKOUT / "tests").glob("*/RESULTS.md")),
]
CONFIGURATION = (DOCS / "configuration.md").read_text()
COMMANDS = (DOCS / "cli.md").read_text()


def name_of(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


# The reference pages.


@functools.cache
def make() -> types.ModuleType:
    """The command that writes the reference pages, deploy/docs/make.py."""
    spec = importlib.util.spec_from_file_location("make_documentation", DOCS / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_pages_are_renewed() -> None:
    assert [path.name for path in make().stale()] == [], "run python deploy/docs/make.py"


def test_a_stale_page_is_found_and_mended(tmp_path: Path) -> None:
    for page in make().PLACES:
        (tmp_path / page).write_text((DOCS / page).read_text())
    changed = tmp_path / "configuration.md"
    changed.write_text(changed.read_text().replace("`MK8S_LISTEN`", "`MK8S_LISTENS`"))
    assert make().stale(tmp_path) == {changed: CONFIGURATION}


def test_a_setting_without_a_meaning_is_refused() -> None:
    @dataclasses.dataclass
    class Untold:
        told: int = 1
        """What it means."""
        untold: int = 2

    with pytest.raises(SystemExit, match=r"Untold\.untold has no doc string"):
        list(make().settings_of(Untold))


def row_of(place: str, chapter: str) -> str:
    """The table row of one setting in a chapter of configuration.md."""
    text = CONFIGURATION.partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    found = re.search(rf"^\| `{re.escape(place)}` \|.*$", text, re.MULTILINE)
    assert found, f"{place} is not in the table of {chapter}"
    return found[0]


@pytest.mark.parametrize("place", sorted(environment_variables()))
def test_every_setting_of_central_is_documented(place: str) -> None:
    assert f"`{environment_variables()[place]}`" in row_of(place, "Central")


def defaults(owner: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in dataclasses.fields(owner):
        if dataclasses.is_dataclass(entry.default_factory):
            found |= defaults(entry.default_factory, f"{prefix}{entry.name}.")
        else:
            found[prefix + entry.name] = entry.default
    return found


FIXED = {
    place: value
    for place, value in defaults(Settings).items()
    if isinstance(value, (str, int, float)) and not isinstance(value, bool) and value
}


@pytest.mark.parametrize("place", sorted(FIXED))
def test_documented_defaults_are_the_real_ones(place: str) -> None:
    assert f"| `{FIXED[place]}` |" in row_of(place, "Central")


def test_no_setting_is_documented_that_does_not_exist() -> None:
    documented = set(re.findall(r"^\| `[^`]+` \| `(MK8S_[A-Z_]+)` \|", CONFIGURATION, re.MULTILINE))
    central = set(environment_variables().values())
    agent = {names[0] for names in agent_variables().values()}
    assert documented <= central | agent
    assert central <= documented


@pytest.mark.parametrize("place", sorted(agent_variables()))
def test_every_setting_of_the_agent_is_documented(place: str) -> None:
    assert f"`{agent_variables()[place][0]}`" in row_of(place, "Agent")


def test_the_example_of_central_is_a_configuration(tmp_path: Path) -> None:
    (example,) = yaml_of(DOCS / "configuration.md")
    file = tmp_path / "central.yaml"
    file.write_text(example)
    assert load_settings(file, {}).tokens.access_seconds == 600


def leaves(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of the CLI with its whole name."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


CLI = dict(leaves(command_table.mk8s, "mk8s"))


@pytest.mark.parametrize("name", sorted(CLI))
def test_every_command_of_the_cli_is_documented_with_its_options(name: str) -> None:
    found = re.search(rf"^### `{re.escape(name)}[ `].*?(?=^##)", COMMANDS, re.DOTALL | re.MULTILINE)
    assert found, f"{name} is not in cli.md"
    documented = re.findall(r"^- `(.*?)`:", found[0], re.MULTILINE)
    for parameter in CLI[name].params:
        if isinstance(parameter, click.Option):
            assert any(parameter.opts[-1] in it.split() for it in documented), parameter.opts


# The README.


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 9 * 1024


@pytest.mark.parametrize(
    "title", ["Quick start", "Installation", "First use", "Security model", "Documentation"]
)
def test_every_section_is_there(title: str) -> None:
    assert f"\n## {title}\n" in README


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^    (python3 -m venv .*tox)$", README, re.MULTILINE)
    assert len(commands) == 1
    pattern = re.search(r"sed -n '(s/.*/p)' README\.md", (CHECKOUT / ".ci/run").read_text())
    assert pattern, "the command of .ci/run is the README's own"


# Every page.


def yaml_of(page: Path) -> list[str]:
    found = command_lines.blocks(page.read_text())
    return [block.text for block in found if block.language == "yaml"]


@pytest.mark.parametrize("page", [CHECKOUT / "README.md", DOCS / "policy.md"], ids=name_of)
def test_examples_of_roles_are_policies(page: Path) -> None:
    examples = [parse_rbac(yaml.safe_load(example)) for example in yaml_of(page)]
    assert examples[0].users
    assert all(example.roles for example in examples)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_known_language(page: Path) -> None:
    found = command_lines.blocks(page.read_text())
    assert {block.language for block in found} <= command_lines.LANGUAGES


@pytest.mark.parametrize(
    "command", [it for page in PAGES for it in command_lines.command_lines(page)], ids=str
)
def test_every_command_line_is_known_with_its_words(command: CommandLine) -> None:
    if command.words[0] == "kubectl" and not kubectl.binaries():
        pytest.skip("no kubectl: set MK8S_TEST_KUBECTLS")
    command_lines.check(command.words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_within_sentences_are_known_too(page: Path) -> None:
    for words in command_lines.inline_commands(page.read_text()):
        command_lines.check(words)


@pytest.mark.parametrize(
    "wrong",
    ["mk8s clusters lost", "mk8s status --colour", "mk8s-central serve --works 4", "mk9s login",
     "kubectl obtain pods", "kubectl get pods --where", "tox -e nothing", "python certs/none.py",
     "pip install '.[nothing]'", "docker build -f deploy/docker/none -t x .", "mk8s use a b",
     "python -m tests.conformance --readme", "docker push x", "bash none"],
)  # fmt: skip
def test_a_wrong_command_line_is_found(wrong: str) -> None:
    if wrong.startswith("kubectl") and not kubectl.binaries():
        pytest.skip("no kubectl: set MK8S_TEST_KUBECTLS")
    for _, words in command_lines.split(wrong):
        with pytest.raises((AssertionError, click.UsageError)):
            command_lines.check(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for target, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        assert (CHECKOUT / target).is_file(), target
        assert not test or f"def {test}(" in (CHECKOUT / target).read_text(), test
    for target in re.findall(r"`((?:deploy|certs)/[\w./-]+\.\w+)`", text):
        assert (CHECKOUT / target).exists(), target


def test_pages_that_code_names_exist() -> None:
    folders = ("mk8s_proxy", "mk8s_agent", "mk8s_cli", "tests", "deploy", "certs")
    files = [it for folder in folders for it in (CHECKOUT / folder).rglob("*")]
    for file in [CHECKOUT / "tox.ini", *files]:
        if file.suffix in {".py", ".ini", ".yaml", ".Dockerfile"} and file != Path(__file__):
            text = file.read_text()
            for page in re.findall(r"[\w/]+/(?:docs/\w+|README|RESULTS)\.md", text):
                assert (CHECKOUT / page).is_file(), f"{file} names {page}"
            assert not re.search(r"README, [A-Z]", text), f"{file} names a chapter of the README"
