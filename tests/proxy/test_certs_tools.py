"""The scripts of certs/: a laboratory's files, certificates in words, a replaced authority."""

import importlib.util
import stat
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

from mk8s_agent.wire import pki
from mk8s_proxy.identity.ca import CertificateAuthority
from mk8s_proxy.process.main import main

CERTS = Path(__file__).resolve().parents[2] / "certs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"certs_{name}", CERTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str | Path, code: int = 0, answer: str = "") -> Result:
    command: click.Command = getattr(script(name), name)
    result = CliRunner().invoke(command, [str(word) for word in arguments], input=answer)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def central(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    data = tmp_path / "data"
    monkeypatch.setenv("MK8S_DATA_DIR", str(data))
    monkeypatch.delenv("MK8S_CONFIG", raising=False)
    return data


def initialise() -> None:
    done = CliRunner().invoke(main, ["init", "--password-stdin"], input="correct horse battery")
    assert done.exit_code == 0, done.output


def pins(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if line.startswith("  pin ")]


def test_laboratory_is_complete_and_private(tmp_path: Path) -> None:
    out = tmp_path / "lab"

    told = run("init", "--out", out, "--name", "a.example", "--name", "127.0.0.1").stdout

    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    authority = CertificateAuthority.load(
        (out / "server-ca.pem").read_bytes(), (out / "server-ca.key").read_bytes()
    )
    assert authority.issued((out / "server.pem").read_bytes())
    assert f"CA pin: {authority.pin}" in told
    assert pki.cluster_id_from_certificate((out / "agent.pem").read_bytes()) == "lab"


def test_certificates_are_told_in_words(tmp_path: Path) -> None:
    run("init", "--out", tmp_path, "--name", "a.example")

    told = run("show", tmp_path / "server.pem").stdout

    for line in ("names     a.example", "purpose   servers", "purpose   signs: servers"):
        assert f"  {line}\n" in told
    assert "WARNING" not in told


def test_what_is_no_certificate_is_one_line(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")

    assert run("show", junk, code=1).stderr.count("\n") == 1


def test_central_without_init_is_one_line_and_makes_nothing(central: Path) -> None:
    assert "run: mk8s-central init" in run("show", code=1).stderr
    assert "run: mk8s-central init" in run("init", "--replace", "agent", code=1, answer="y").stderr
    assert not central.exists()


def test_replacing_one_authority_leaves_the_other(central: Path) -> None:
    initialise()
    before = pins(run("show").stdout)

    run("init", "--replace", "agent", answer="n", code=1)
    assert pins(run("show").stdout) == before
    run("init", "--replace", "agent", answer="y")

    server, agent, *_ = pins(run("show").stdout)
    assert server == before[0]
    assert agent != before[1]


def test_init_wants_to_know_what(tmp_path: Path) -> None:
    assert "say either" in run("init", code=2).stderr
    assert "say either" in run("init", "--out", tmp_path, "--replace", "agent", code=2).stderr
