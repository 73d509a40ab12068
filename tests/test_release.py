"""What `python deploy/release.py` writes without a look at a package index.

The rest of it, and all of it in fresh environments: `tox -e package`.
"""

import importlib.util
import json
import re
import subprocess
import sys
import types
import zipapp
from pathlib import Path

import pytest

from tests.support.helm import helm

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def release() -> types.ModuleType:
    """deploy/release.py."""
    spec = importlib.util.spec_from_file_location("release", CHECKOUT / "deploy" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packaged_charts_are_charts(release: types.ModuleType, tmp_path: Path) -> None:
    release.package_charts(tmp_path)
    found = sorted(it.name for it in tmp_path.iterdir())
    version = release.version()
    assert found == [f"mk8s-agent-{version}.tgz", f"mk8s-central-{version}.tgz"]
    words = ("--set", "centralUrl=https://a.example.com", "--set", "clusterName=prod")
    packed, unpacked = (
        helm("template", "mk8s-agent", str(chart), *words).stdout
        for chart in (tmp_path / found[0], CHECKOUT / "deploy" / "helm" / "agent")
    )
    assert packed == unpacked
    before = (tmp_path / found[0]).read_bytes()
    release.package_charts(tmp_path)
    assert (tmp_path / found[0]).read_bytes() == before, "the same charts are the same files"


def test_the_sbom_has_what_people_install(release: types.ModuleType, tmp_path: Path) -> None:
    release.write_sbom(tmp_path)
    bom = json.loads((tmp_path / f"mk8s-{release.version()}.cdx.json").read_text())
    assert (bom["bomFormat"], bom["metadata"]["component"]["name"]) == ("CycloneDX", "mk8s")
    parts = {it["name"]: it for it in bom["components"]}
    assert {"aiohttp", "sqlalchemy", "click", "kubernetes"} <= set(parts)
    assert not {"pytest", "mypy", "matplotlib", "trustme"} & set(parts)
    lock = (CHECKOUT / "deploy" / "requirements.lock").read_text()
    for name, part in parts.items():
        assert f"\n{name}=={part['version']} " in lock
        assert part["hashes"]
        assert part["purl"] == f"pkg:pypi/{name}@{part['version']}"


def test_checksums_are_those_of_the_files(release: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    release.write_checksums(tmp_path)
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "a").write_bytes(b"other")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 1


def test_what_would_mix_two_releases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    command = [sys.executable, CHECKOUT / "deploy" / "release.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is not empty" in done.stderr


def test_the_one_file_is_what_a_kubeconfig_names(tmp_path: Path) -> None:
    """Kubectl starts the same file, by its Python, whatever is installed beside it."""
    program = tmp_path / "mk8s.pyz"
    zipapp.create_archive(
        CHECKOUT,
        program,
        main="mk8s_cli.main:program",
        filter=lambda path: path.parts[0] == "mk8s_cli" and path.suffix != ".pyc",
    )
    code = "from mk8s_cli.kubeconfig.files import plugin; print(plugin())"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(program)!r}); {code}"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert re.search(rf"\('-E', '-P', '{re.escape(str(program))}'\)", told), told
