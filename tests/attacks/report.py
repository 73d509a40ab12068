"""The table: what each attack did, to whom, and whether it was held."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

from tests.attacks.deterministic import TESTS
from tests.attacks.judge import FACTOR, MEMORY_SHARE, TURNS_MS, Finding, Memory, floor
from tests.attacks.meter import MIB
from tests.bench.relay import machine
from tests.bench.relay.figures import percentile

_HEAD = """# Attacks

Written by `python -m tests.attacks`: each attack runs against a started central and its agents
(a stub cluster behind each) from a process of its own, while another user asks for a small object
every 10 ms and makes a new connection each second. `--list` names the attacks, `--only NAME` runs
some, `--quick` takes two seconds for each.

"""
_LEGEND = """
Points are those of the issue "Nobody takes it down, nothing fails open" (numbers) and of the list
of attacks of the design (letters). *p50*, *p99*: the other user's requests in milliseconds, before
and during. *MiB*: memory (RSS) before, at its peak, and when it was back within {share:.0%}, or
after a minute. *CPU*: central's share of one processor during the attack. Attackers are niced,
since real ones bring their own machines, and have a line of 100 Mbit/s.
"""
_RULE = """An attack is held when the other user's p99 stays below {factor:g} x, or below two turns
of 20 ms, central's and the agent's ({turns:g} ms), or below the worst p99 of a window without an
attack in that run, since other programs use the machine; when nobody else gets an error; and when
memory is back within a minute. What misses is measured up to {tries} times, since noise only adds;
*tries* says so.
"""
TRIES = 2


_TESTS = """## The same as tests

Quick, on one part, without a clock.
"""


def _tests(names: Iterable[str]) -> list[tuple[str, str]]:
    known = {name: test for part in TESTS.values() for name, test in part.items()}
    return [(name, known[name]) for name in names if name in known]


def rate(counts: dict[str, Any], seconds: float) -> str:
    """What the attacker did, a second."""
    parts = []
    if counts["requests"]:
        parts.append(f"{counts['requests'] / seconds:,.0f} req/s")
    if counts["connections"]:
        parts.append(f"{counts['connections']:,} conn")
    parts.append(f"{counts['sent'] / seconds / 1024:,.0f} KB/s")
    return ", ".join(parts)


def answers(counts: dict[str, Any]) -> str:
    """What the attacker got."""
    parts = [f"{count:,} x {name}" for name, count in sorted(counts["answers"].items())]
    parts += [f"{count:,} x {name}" for name, count in sorted(counts["ends"].items())]
    if counts["failed"]:
        parts.append(f"{counts['failed']:,} connections not to be had")
    return ("; ".join(parts) or "no answer").replace("|", "/")


def describe(*, quick: bool) -> dict[str, str]:
    """Where and when."""
    told = machine.describe()
    kept = ("date", "commit", "build", "cpu", "kernel", "load before", "python", "tls")
    about = {name: told[name] for name in kept} | {"nice": str(os.nice(0))}
    return about | ({"run": "quick"} if quick else {})


def run(quiet: Sequence[float], described: dict[str, str]) -> str:
    """A line about one run: where, when, and what the machine does without any attack."""
    about = "; ".join(f"{name}: {value}" for name, value in described.items())
    if not quiet:
        return f"- {about}."
    median, worst = percentile(sorted(quiet), 50), max(quiet)
    return (
        f"- {about}; p99 without an attack: {median:.1f} ms in the median of {len(quiet)} windows, "
        f"{worst:.1f} ms in the worst, so the floor was {floor(list(quiet)):.0f} ms."
    )


def _windows(finding: Finding, name: str) -> str:
    windows = (finding.before, finding.during)
    values = ["-" if it is None else f"{getattr(it, name):.1f}" for it in windows]
    return " -> ".join(values) if values != ["-", "-"] else ""


def _memory(memory: Memory | None, name: str) -> str:
    if memory is None:
        return ""
    values = (memory.before[name], memory.most[name], memory.after[name])
    back = f" ({memory.seconds:.0f} s)" if memory.seconds >= 1 else ""
    return " / ".join(f"{value / MIB:.0f}" for value in values) + back


def _row(finding: Finding) -> str:
    held = {True: "yes", False: "**no**", None: "left out"}[finding.held]
    tries = f" ({finding.tries} tries)" if finding.tries > 1 else ""
    cells = [
        finding.name,
        finding.point,
        finding.what,
        finding.rate,
        _windows(finding, "p50"),
        _windows(finding, "p99"),
        _memory(finding.memory, "central"),
        _memory(finding.memory, "agent"),
        f"{finding.cpu:.0%}" if finding.memory else "",
        held + tries,
        finding.why,
    ]
    return "| " + " | ".join(it.replace("|", "/").replace("\n", " ") for it in cells) + " |"


def rows_of(findings: Sequence[Finding]) -> dict[str, str]:
    """The row of each attack."""
    return {it.name: _row(it) for it in findings}


def earlier(text: str) -> tuple[dict[str, str], list[str]]:
    """The rows of a table that was written before, and the lines about its runs."""
    lines = text.partition("\n## ")[0].splitlines()
    rows = {
        line.split("|")[1].strip(): line
        for line in lines
        if line.startswith("| ") and not line.startswith("| attack ")
    }
    return rows, [line for line in lines if line.startswith("- date: ")]


def table(rows: dict[str, str], runs: Sequence[str]) -> str:
    """The whole file."""
    held = sum("| yes" in it for it in rows.values())
    lost = [name for name, it in rows.items() if "| **no**" in it]
    left_out = [name for name, it in rows.items() if "| left out |" in it]
    summary = f"{held} of {len(rows)} attacks held."
    if lost:
        summary += f" Not held: {', '.join(lost)}."
    if left_out:
        summary += f" Left out: {', '.join(left_out)}."
    names = "attack|point|what|rate|p50 ms|p99 ms|central MiB|agent MiB|CPU|held|what happened"
    heads = names.split("|")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *rows.values()]
    tests = [f"| {name} | `{test}` |" for name, test in _tests(rows)]
    if tests:
        lines += ["", _TESTS, "| attack | test |", "|---|---|", *tests]
    rule = _RULE.format(factor=FACTOR, turns=TURNS_MS, tries=TRIES)
    legend = _LEGEND.format(share=MEMORY_SHARE)
    told = "\n".join(runs)
    return f"{_HEAD}{summary}\n\n{rule}\n{told}\n{legend}\n" + "\n".join(lines) + "\n"
