"""Holds the unit tests to their coverage: run by tox with the JSON report of coverage.py.

Two rules, both in pyproject.toml under [tool.mk8s.coverage]: the whole must reach `fail_under`
percent, and each file of `every_branch` must have no line and no branch untaken. A pattern without
a measured file is a mistake too: a renamed decision module must not slip out of the gate.
"""

import fnmatch
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent


def gaps_of(measured: dict[str, Any]) -> str:
    """What one file's entry of the report leaves untaken, or an empty string."""
    lines = [str(line) for line in measured["missing_lines"]]
    branches = [f"{start}->{end}" for start, end in measured["missing_branches"]]
    return ", ".join(lines + branches)


def failures(report: dict[str, Any], rules: dict[str, Any]) -> list[str]:
    """One sentence for each rule that the report breaks."""
    found = []
    percent = report["totals"]["percent_covered"]
    if percent < rules["fail_under"]:
        found.append(f"coverage is {percent:.2f} %, below {rules['fail_under']} %")
    for pattern in rules["every_branch"]:
        files = fnmatch.filter(report["files"], pattern)
        if not files:
            found.append(f"{pattern}: no such file was measured")
        for name in files:
            gaps = gaps_of(report["files"][name])
            if gaps:
                found.append(f"{name}: every branch must be taken, these are not: {gaps}")
    return found


def main(arguments: list[str]) -> int:
    """Print what is missing; 1 when something is."""
    report = json.loads(Path(arguments[0]).read_text())
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    found = failures(report, settings["tool"]["mk8s"]["coverage"])
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"coverage {report['totals']['percent_covered']:.2f} %, decision code complete")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
