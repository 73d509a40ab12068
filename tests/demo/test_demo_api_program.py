"""`python -m mk8s_cli.demo_api` as `mk8s demo` starts it."""

import os
import signal
import sys
from pathlib import Path

import yaml

from tests.support.processes import Program, run

COMMAND = (sys.executable, "-m", "mk8s_cli.demo_api")


def test_it_prints_its_url_and_ends_on_a_signal(tmp_path: Path) -> None:
    command = (*COMMAND, "--port", "0", "--data-dir", str(tmp_path / "data"))
    with Program("demo API", command, os.environ) as program:
        url = program.wait_for_line(r"^https://127\.0\.0\.1:\d+$")[0]
        program.wait_for_line("in-memory Kubernetes API")
        path = tmp_path / "data" / "kubeconfig"
        assert path.stat().st_mode & 0o777 == 0o600
        assert yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"] == url
        port = url.rpartition(":")[2]
        taken = run((*COMMAND, "--port", port, "--data-dir", tmp_path / "two"), os.environ, code=1)
        assert taken.stderr.startswith(f"Error: cannot serve on port {port}: ")
        program.signal(signal.SIGINT)
        assert program.wait() == 0
