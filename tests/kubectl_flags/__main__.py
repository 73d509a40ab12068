"""Writes `mk8s_proxy/kubectl/flags.json`: `python -m tests.kubectl_flags KUBECTL...`."""

import sys
import tempfile
from pathlib import Path

from tests.kubectl_flags.merge import merged, text_of
from tests.kubectl_flags.read import Kubectl

TABLE = Path(__file__).resolve().parents[2] / "mk8s_proxy" / "kubectl" / "flags.json"


def main(programs: list[str]) -> None:
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            kubectl = Kubectl(Path(program), Path(folder))
            version = kubectl.version()
            tables[version] = kubectl.commands()
            print(f"{version}: {len(tables[version])} commands", file=sys.stderr)
    TABLE.write_text(text_of(merged(tables)))


if __name__ == "__main__":
    main(sys.argv[1:])
