"""Writes the reference pages from what they describe: settings, metrics, commands, the REST API.

Run from a checkout with the extra `central` installed, after a setting or command has changed:

    python deploy/docs/make.py

Pages are texts with marked places; only these are written. `--check` writes nothing and exits
with 1 if a page is stale, which is what the tests ask too.
"""

import argparse
import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from mk8s_agent import command as agent_command
from mk8s_agent import settings as agent_settings
from mk8s_agent.tunnel import metrics as agent_metrics
from mk8s_agent.wire.metrics import Metric
from mk8s_cli import command_table
from mk8s_proxy.api import application as rest_api
from mk8s_proxy.process import main as central_main
from mk8s_proxy.process import metrics as central_metrics
from mk8s_proxy.settings import load as central_load
from mk8s_proxy.settings import login as login_settings
from mk8s_proxy.settings import model as central_settings
from mk8s_proxy.settings import spellings

HERE = Path(__file__).resolve().parent
MARK = "<!-- {name}: written by `python deploy/docs/make.py` -->"
END = "<!-- {name}: end -->"
EXAMPLE = re.compile(r"\s*Example: (.*?)(?: \(and .*\))?\s*$", re.DOTALL)


def doc_strings(owner: type) -> dict[str, str]:
    """The text below each field of a class, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for entry, below in zip(body.body, body.body[1:], strict=False):
        is_field = isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name)
        if is_field and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[entry.target.id] = " ".join(str(below.value.value).split())
    return found


def settings_of(owner: type, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """The place of each setting in the YAML file, its field and what it means."""
    meanings = doc_strings(owner)
    for field in dataclasses.fields(owner):
        nested = field.default_factory
        if dataclasses.is_dataclass(nested) and isinstance(nested, type):
            yield from settings_of(nested, f"{prefix}{field.name}.")
        elif field.name in meanings:
            yield prefix + field.name, field, meanings[field.name]
        else:
            sys.exit(f"{owner.__name__}.{field.name} has no doc string: say what it means")


def shown_default(field: Any) -> str:
    """The default as it is written in YAML; nothing for one that is worked out or empty."""
    value = field.default
    if value is dataclasses.MISSING:
        value = None if field.default_factory is dataclasses.MISSING else field.default_factory()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (list, tuple, set, frozenset)):
        value = ", ".join(map(str, value))
    return "" if value is None or value in ("", Path()) else f"`{value}`"


def shown_range(field: Any) -> str:
    """The numbers that are allowed, behind the meaning."""
    least, most = field.metadata.get("least"), field.metadata.get("most")
    if least is None and most is None:
        return ""
    if most is None:
        return f" At least {least}."
    return f" At most {most}." if least is None else f" {least} to {most}."


def settings_table(owner: type, variables: Callable[[str], str]) -> str:
    """One row for each setting."""
    rows = ["| key | variable | default | meaning |", "|---|---|---|---|"]
    for place, field, meaning in settings_of(owner):
        told = (meaning + shown_range(field)).replace("``", "`").replace("|", "\\|")
        cells = (f"`{place}`", variables(place), shown_default(field), told)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def central_table() -> str:
    """The settings of central."""
    variables = central_load.environment_variables()
    return settings_table(central_settings.Settings, lambda place: f"`{variables[place]}`")


def items_table(owner: type) -> str:
    """What each item of a list of sections has."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for place, field, meaning in settings_of(owner):
        needed = field.default is dataclasses.MISSING and field.default_factory is field.default
        default = "needed" if needed else shown_default(field)
        rows.append(f"| `{place}` | {default} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def agent_table() -> str:
    """The settings of the agent; the short names that manifests use come first."""
    variables = agent_settings.environment_variables()
    return settings_table(
        agent_settings.Settings,
        lambda place: ", ".join(f"`{name}`" for name in reversed(variables[place])),
    )


def central_spellings() -> str:
    """Keys of central's file that are not its settings' own names, and what they mean."""
    refused = {key: f"refused: {text}" for key, text in spellings.REFUSED.items()}
    return spellings_table(dict(spellings.MEANINGS) | refused)


def agent_spellings() -> str:
    """The same for the agent."""
    meanings = {key: f"`{place}`" for key, place in agent_settings.SPELLINGS.items()}
    refused = "false; true is refused: write `ca_pin` or `ca_file`"
    return spellings_table(meanings | {"tls.insecure": refused})


def spellings_table(meanings: dict[str, str]) -> str:
    """One row for each key."""
    rows = [f"| `{key}` | {meaning} |" for key, meaning in meanings.items()]
    return "\n".join(["| key | meaning |", "|---|---|", *rows])


def metrics_table(metrics: Iterable[Metric]) -> str:
    """One row for each metric."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for it in metrics:
        labels = ", ".join(f"`{label}`" for label in it.labels)
        rows.append(f"| `{it.name}` | {it.kind} | {labels} | {it.meaning} |")
    return "\n".join(rows)


def commands_of(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, in their own order, with whole names."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from commands_of(below, f"{name} {word}")


def command_section(name: str, command: click.Command) -> str:
    """Usage, what it does, options and an example."""
    context = click.Context(command, info_name=name)
    pieces = [it for it in command.collect_usage_pieces(context) if it != "[OPTIONS]"]
    texts = [inspect.cleandoc(text) for text in (command.help, command.epilog) if text]
    examples = [found[1] for text in texts if (found := EXAMPLE.search(text))]
    parts = [f"### `{' '.join([name, *pieces])}`", *(_plain(EXAMPLE.sub("", it)) for it in texts)]
    options = [it for it in command.params if isinstance(it, click.Option)]
    records = [it.get_help_record(context) for it in options]
    parts.append("\n".join(f"- `{it[0]}`: {_plain(it[1])}" for it in records if it))
    parts += [f"```sh\n{' '.join(example.split())}\n```" for example in examples]
    return "\n\n".join(part for part in parts if part)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([<>*])", r"\\\1", text)


def reference(command: click.Command, name: str) -> str:
    """Every command of a program."""
    return "\n\n".join(command_section(*it) for it in commands_of(command, name))


def rest_reference() -> str:
    """Every operation of the REST API, by its tag."""
    operations = [
        (operation["tags"][0], rest_operation(path, method, operation))
        for path, item in rest_api.DOCUMENT["paths"].items()
        for method, operation in item.items()
    ]
    parts = []
    for tag in rest_api.DOCUMENT["tags"]:
        parts.append(f"### {tag['name']}\n\n{tag['description']}")
        parts += [text for name, text in operations if name == tag["name"]]
    return "\n\n".join(parts)


def rest_operation(path: str, method: str, operation: dict[str, Any]) -> str:
    """One operation: what it does, what it takes and what it answers."""
    lines = [f"#### `{method.upper()} {path}`", "", " ".join(operation["description"].split()), ""]
    if not operation["security"]:
        lines.append("- without a token")
    lines += [
        f"- `?{it['name']}=`{_behind(_plain(it.get('description', '')))}"
        for it in operation.get("parameters", ())
        if it["in"] == "query"
    ]
    content = operation.get("requestBody", {}).get("content", {})
    lines += [f"- takes {rest_fields(it['schema'])}" for it in content.values()]
    for code, response in operation["responses"].items():
        if code.startswith("2"):
            shown = [
                rest_fields(it.get("schema", {})) for it in response.get("content", {}).values()
            ]
            lines.append(f"- {code}{_behind(next((it for it in shown if it), ''))}")
    refusals = [code for code in operation["responses"] if code >= "3"]
    lines.append(f"- else {', '.join(refusals)}")
    return "\n".join(lines)


def _behind(text: str) -> str:
    return f": {text}" if text else ""


def rest_fields(schema: dict[str, Any]) -> str:
    """The fields of a body; those that may be left out in brackets."""
    if "$ref" in schema:
        schema = rest_api.DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    names = [f"`{it}`" if it in required else f"(`{it}`)" for it in schema.get("properties", ())]
    return ", ".join(names)


PLACES: dict[str, dict[str, Callable[[], str]]] = {
    "configuration.md": {
        "central": central_table,
        "central-spellings": central_spellings,
        "central-issuers": lambda: items_table(login_settings.IssuerSettings),
        "central-groups": lambda: items_table(login_settings.GroupRule),
        "central-federation": lambda: items_table(login_settings.FederationSettings),
        "agent": agent_table,
        "agent-spellings": agent_spellings,
    },
    "operations.md": {
        "metrics-central": lambda: metrics_table(central_metrics.METRICS),
        "metrics-agent": lambda: metrics_table(agent_metrics.METRICS),
    },
    "rest.md": {"rest": rest_reference},
    "cli.md": {
        "mk8s": lambda: reference(command_table.mk8s, "mk8s"),
        "mk8s-central": lambda: reference(central_main.main, "mk8s-central"),
        "mk8s-agent": lambda: reference(agent_command.command, "mk8s-agent"),
    },
}
"""What stands at each marked place of each page."""


def renewed(page: str, text: str) -> str:
    """The text of a page with its marked places as they must be."""
    for name, make in PLACES[page].items():
        begin, end = MARK.format(name=name), END.format(name=name)
        if text.count(begin) != 1 or end not in text.partition(begin)[2]:
            sys.exit(f"{page} has no lines {begin!r} and {end!r}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{make()}\n{end}{rest.partition(end)[2]}"
    return text


def stale(folder: Path = HERE) -> dict[Path, str]:
    """The pages that must change, and to what."""
    pages = {folder / page: (folder / page).read_text() for page in PLACES}
    wanted = {path: renewed(path.name, text) for path, text in pages.items()}
    return {path: text for path, text in wanted.items() if text != pages[path]}


def main() -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail if a page is stale"
    )
    is_check = parser.parse_args().check
    found = stale()
    for path, text in found.items():
        if is_check:
            print(f"{path.name} is stale: run python deploy/docs/make.py")
        else:
            path.write_text(text)
            print(f"{path.name} is written")
    return 1 if is_check and found else 0


if __name__ == "__main__":
    sys.exit(main())
