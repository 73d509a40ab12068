"""Makes everything of a release in one folder, with checksums and an SBOM.

    python deploy/release.py OUT

The version is the one of pyproject.toml; a test holds the charts to it. Needs the extra `release`,
and a C compiler for the compiled wheel, which `--pure` leaves out.

    mk8s-VERSION.tar.gz                   sdist
    mk8s-VERSION-py3-none-any.whl         pure Python, the reference
    mk8s-VERSION-cp*.whl                  compiled, for this Python and machine
    mk8s-central-VERSION.tgz, mk8s-agent-VERSION.tgz      charts
    mk8s.pyz                              the CLI as one file that needs Python only
    mk8s-VERSION.cdx.json                 SBOM (CycloneDX): what the lock pins, by extra
    SHA256SUMS
"""

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipapp
import zipfile
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

CHECKOUT = Path(__file__).resolve().parents[1]
CHARTS = CHECKOUT / "deploy" / "helm"
SHIPPED = ("base", "agent", "central", "install")
"""The extras that people run; the others are for tests and builds."""
OLDEST = "3.11"
PLATFORM = "x86_64-manylinux_2_28"
"""For the choice of wheels only: what is compiled in them is left out of mk8s.pyz."""
EPOCH = 1577836800
"""2020-01-01: the time of files in archives, so that what is built twice is the same."""


def run(*command: str | Path, **variables: str) -> str:
    """Run a command to its end; what it printed, or this program ends with its complaint."""
    words = [str(word) for word in command]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)} | variables
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def version() -> str:
    """The version of the release."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def build_distributions(out: Path, *, compiled: bool) -> None:
    """The sdist and the wheels."""
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", out)
    run(*build, CHECKOUT, MK8S_COMPILE="")
    if compiled:
        run(*build, "--wheel", CHECKOUT, MK8S_COMPILE="1")


def package_charts(out: Path) -> None:
    """What `helm package` makes of them: an archive with a folder of the chart's name."""
    for chart in sorted(CHARTS.iterdir()):
        name = f"mk8s-{chart.name}"
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in sorted(it for it in chart.rglob("*") if it.is_file()):
                entry = tarfile.TarInfo(f"{name}/{path.relative_to(chart).as_posix()}")
                entry.size, entry.mtime, entry.mode = path.stat().st_size, EPOCH, 0o644
                with path.open("rb") as file:
                    archive.addfile(entry, file)
        content = gzip.compress(packed.getvalue(), mtime=EPOCH)
        (out / f"{name}-{version()}.tgz").write_bytes(content)


def locked(*extras: str) -> str:
    """The lock's entries for these extras."""
    return run(sys.executable, CHECKOUT / "deploy" / "docker" / "locked.py", *extras)


def build_zipapp(out: Path, scratch: Path) -> None:
    """The CLI and the pure Python of its dependencies.

    What is compiled cannot be loaded from an archive: PyYAML has Python for it, and keyring does
    without the backend that needs a compiled library, so refresh tokens are in a file of mode 0600.
    """
    content, wanted = scratch / "pyz", scratch / "base.txt"
    wanted.write_text(locked("base"))
    uv = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", content)
    how = ("--python-version", OLDEST, "--python-platform", PLATFORM, "--only-binary", ":all:")
    run(*uv, *how, "--require-hashes", "--no-deps", "-r", wanted)
    with zipfile.ZipFile(next(out.glob("*-py3-none-any.whl"))) as wheel:
        ours = [it for it in wheel.namelist() if not it.startswith(("mk8s_proxy/", "mk8s_agent/"))]
        wheel.extractall(content, ours)  # noqa: S202  built a moment ago
    for path in sorted(content.rglob("*"), reverse=True):
        if path.suffix in {".so", ".pyc"} or path.name == "bin":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            os.utime(path, (EPOCH, EPOCH))
    for name in ("cryptography", "cffi", "pycparser", "secretstorage", "jeepney", "_cffi_backend"):
        for path in content.glob(f"{name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    program = out / "mk8s.pyz"
    zipapp.create_archive(
        content, program, "/usr/bin/env python3", "mk8s_cli.main:program", compressed=True
    )
    program.chmod(0o755)


def write_sbom(out: Path) -> None:
    """One component for each distribution that an extra of the release brings."""
    bom = Bom()
    ours = PackageURL("pypi", name="mk8s", version=version())
    root = Component(
        name="mk8s", version=version(), type=ComponentType.APPLICATION, purl=ours, bom_ref="mk8s"
    )
    bom.metadata.component = root
    parts = []
    for entry in re.split(r"\n(?=[a-z0-9])", locked(*SHIPPED).strip()):
        found = re.match(r"([a-z0-9-]+)==([^\s;]+)", entry)
        assert found is not None
        purl = PackageURL("pypi", name=found[1], version=found[2])
        hashes = [
            HashType(alg=HashAlgorithm.SHA_256, content=it)
            for it in re.findall(r"--hash=sha256:([0-9a-f]{64})", entry)
        ]
        component = Component(
            name=found[1], version=found[2], purl=purl, bom_ref=str(purl), hashes=hashes
        )
        parts.append(component)
        bom.components.add(component)
    bom.register_dependency(root, parts)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    (out / f"mk8s-{version()}.cdx.json").write_text(f"{text}\n")


def write_checksums(out: Path) -> None:
    """As `sha256sum --check` reads them."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(out.iterdir())
    ]
    (out / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    """All of it, into a folder that is empty or not there yet."""
    parser = argparse.ArgumentParser(description="Makes everything of a release.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--pure", action="store_true", help="no compiled wheel")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise SystemExit(f"{out} is not empty")
    build_distributions(out, compiled=not options.pure)
    package_charts(out)
    with tempfile.TemporaryDirectory() as scratch:
        build_zipapp(out, Path(scratch))
    write_sbom(out)
    write_checksums(out)
    print((out / "SHA256SUMS").read_text(), end="")


if __name__ == "__main__":
    main()
