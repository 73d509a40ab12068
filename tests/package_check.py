"""Builds a release, installs it in fresh environments, starts each program: run by tox.

A wheel that forgets a data file or a dependency passes every test of the checkout; it fails here.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
MUST_SHIP = ("mk8s_proxy/py.typed", "mk8s_agent/py.typed", "mk8s_cli/py.typed")
MUST_NOT_SHIP = ("tests/", "certs/", "deploy/")
# Installed with the base, these would make every laptop pay for central.
CENTRAL_ONLY = ("aiohttp", "sqlmodel", "sqlalchemy", "uvloop", "httptools")


def run(*command: str | Path) -> str:
    """Run one command to its end; its output, or this script ends with it."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=600, cwd="/"
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(scratch: Path) -> tuple[Path, Path]:
    """All of a release from the checkout, but for the compiled wheel; the wheel and the sdist."""
    python, folder = locked_environment(scratch / "release", "release"), scratch / "dist"
    run(python, CHECKOUT / "deploy" / "release.py", "--pure", folder)
    sums = (folder / "SHA256SUMS").read_text().splitlines()
    told = {line.partition("  ")[2]: line.partition("  ")[0] for line in sums}
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "SHA256SUMS"
    }
    if told != found or len(found) != 6:
        sys.exit(f"release: SHA256SUMS has {sorted(told)}, the folder {sorted(found)}")
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def locked_environment(folder: Path, *extras: str) -> Path:
    """A fresh environment with what the lock has for these extras, by its hashes; its Python."""
    run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, folder)
    requirements = folder / "locked.txt"
    locked = run(sys.executable, CHECKOUT / "deploy" / "docker" / "locked.py", *extras)
    requirements.write_text(locked)
    python = folder / "bin" / "python"
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    run(*install, "--require-hashes", "--no-deps", "-r", requirements)
    run(sys.executable, "-m", "uv", "pip", "check", "--python", python)
    return python


def check_one_file(program: Path, version: str) -> None:
    """The CLI as one file, in a Python that has nothing else."""
    said = run(sys.executable, "-I", program, "--version")
    helped = run(sys.executable, "-I", program, "admin", "clusters", "add", "--help")
    if version not in said or "--install" not in helped:
        sys.exit(f"{program.name}: {said}{helped}")


def check_image(folder: Path, wheel: Path) -> None:
    """What the image of central holds: the lock's part, and the wheel without an index."""
    python = locked_environment(folder, "base", "central")
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
    run(*install, "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "uv", "pip", "check", "--python", python)
    run(folder / "bin" / "mk8s-central", "--help")


def check_contents(wheel: Path, sdist: Path) -> None:
    """The wheel carries every package file of the checkout and nothing else of it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = ("mk8s_proxy", "mk8s_agent", "mk8s_cli")
    tracked = run("git", "-C", CHECKOUT, "ls-files", *packages).split()
    missing = sorted(
        {*MUST_SHIP, *(name for name in tracked if (CHECKOUT / name).exists())} - names
    )
    extra = sorted(name for name in names if name.startswith(MUST_NOT_SHIP))
    licensed = any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(sdist) as archive:
        in_sdist = any(name.endswith("/LICENSE") for name in archive.getnames())
    if missing or extra or not licensed or not in_sdist:
        sys.exit(
            f"wheel: missing {missing}, not ours to ship {extra}, LICENSE {licensed and in_sdist}"
        )


def install(folder: Path, wheel: Path, extras: str) -> Path:
    """A fresh environment holding the wheel with these extras; its folder of programs."""
    run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, folder)
    target = f"mk8s{extras} @ {wheel.as_uri()}"
    programs = folder / "bin"
    python = programs / "python"
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, target)
    return programs


def main(scratch: Path) -> None:
    """All of it, in a scratch folder of our own."""
    scratch = scratch / "package"
    shutil.rmtree(scratch, ignore_errors=True)
    wheel, sdist = build(scratch)
    check_contents(wheel, sdist)
    base = install(scratch / "base", wheel, "")
    version = run(base / "mk8s", "--version")
    installed = run(sys.executable, "-m", "uv", "pip", "list", "--python", base / "python")
    heavy = [name for name in CENTRAL_ONLY if f"\n{name} " in installed]
    if wheel.name.split("-")[1] not in version or heavy:
        sys.exit(f"base install: version {version!r}, must not bring {heavy}")
    check_one_file(wheel.with_name("mk8s.pyz"), wheel.name.split("-")[1])
    check_image(scratch / "image", wheel)
    agent = install(scratch / "agent", wheel, "[agent]")
    run(agent / "mk8s-agent", "--help")
    central = install(scratch / "central", wheel, "[central]")
    run(central / "mk8s-central", "--help")
    demo = install(scratch / "demo", wheel, "[demo,install]")
    run(demo / "mk8s", "demo", "--help")
    run(demo / "python", "-c", "from kubernetes.dynamic import DynamicClient")
    print(f"{wheel.name}: base, agent, central and demo install and start")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
