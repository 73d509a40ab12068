"""Holds the unit tests to their coverage: run by tox with the JSON report of coverage.py.

Two rules, both in pyproject.toml under [tool.mk8s.coverage]: the whole must reach `fail_under`
percent, and each file of the rooms in `every_branch` must have no line and no branch untaken, but
for the doors that the import contract names: what speaks with sockets, disks and threads. A pattern
without a measured file is a mistake too: a renamed room must not slip out of the gate.
"""

import fnmatch
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PURITY = "Protocol and policy code does no I/O"


def gaps_of(measured: dict[str, Any]) -> str:
    """What one file's entry of the report leaves untaken, or an empty string."""
    lines = [str(line) for line in measured["missing_lines"]]
    branches = [f"{start}->{end}" for start, end in measured["missing_branches"]]
    return ", ".join(lines + branches)


def doors(settings: dict[str, Any]) -> set[str]:
    """The files of pure rooms that may do I/O, as the import contract names them."""
    contracts = settings["tool"]["importlinter"]["contracts"]
    pure = next(entry for entry in contracts if entry["name"] == PURITY)
    modules = (ignored.partition(" ")[0] for ignored in pure["ignore_imports"])
    return {f"{module.replace('.', '/')}.py" for module in modules}


def failures(report: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """One sentence for each rule that the report breaks."""
    rules, left_out = settings["tool"]["mk8s"]["coverage"], doors(settings)
    found = []
    percent = report["totals"]["percent_covered"]
    if percent < rules["fail_under"]:
        found.append(f"coverage is {percent:.2f} %, below {rules['fail_under']} %")
    for pattern in rules["every_branch"]:
        files = fnmatch.filter(report["files"], pattern)
        if not files:
            found.append(f"{pattern}: no such file was measured")
        for name in set(files) - left_out:
            gaps = gaps_of(report["files"][name])
            if gaps:
                found.append(f"{name}: every branch must be taken, these are not: {gaps}")
    return found


def main(arguments: list[str]) -> int:
    """Print what is missing; 1 when something is."""
    report = json.loads(Path(arguments[0]).read_text())
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    found = failures(report, settings)
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"coverage {report['totals']['percent_covered']:.2f} %, decision code complete")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
