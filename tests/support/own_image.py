"""Images of ours without a registry: this Python, the packages and their libraries in one layer.

The real images are built from `deploy/docker`, which needs a registry for their base. These have
the same programs, user and paths that matter to a pod, and get into a node by `ctr images import`.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
AGENT = "docker.io/lab/mk8s-agent:1"
CENTRAL = "docker.io/lab/mk8s-central:v1"
PYTHON, SITE, OWN = "opt/python", "opt/site", "opt/lib"
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip"} | {
    "__pycache__",
    "site-packages",
    "dist-packages",
}
SHELL = Path("/bin/busybox")


def installed(*extras: str) -> list[importlib.metadata.Distribution]:
    """What the lock has for these extras and this Python, as it is installed here."""
    command = [sys.executable, CHECKOUT / "deploy" / "docker" / "locked.py", *extras]
    locked = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    found = []
    for name in re.findall(r"(?m)^([a-z0-9-]+)==", locked):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(importlib.metadata.distribution(name))
    return found


def _files(extra: str, packages: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """What goes into the layer: the name there, the file here."""
    library = Path(sysconfig.get_path("stdlib"))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    yield f"{PYTHON}/bin/python3", Path(sys.executable).resolve()
    yield from _below(library, f"{PYTHON}/lib/{version}")
    for distribution in installed(extra):
        for file in distribution.files or ():
            path = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                yield f"{SITE}/{file.as_posix()}", path
    for package in packages:
        yield from _below(CHECKOUT / package, f"{SITE}/{package}")


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [it for it in folders if it not in LEFT_OUT and not it.startswith("config-")]
        for file in files:
            path = Path(parent) / file
            if path.is_file():
                yield f"{name}/{path.relative_to(folder).as_posix()}", path


def _libraries(files: Iterable[Path]) -> dict[str, Path]:
    """The shared libraries that these programs and modules load; the system's keep their place."""
    binaries = [str(it) for it in files if it.suffix == ".so" or it.name.startswith("python3")]
    told = subprocess.run(["ldd", *binaries], capture_output=True, text=True, timeout=120).stdout
    found = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", told, re.MULTILINE)
    return {
        path.lstrip("/") if path.startswith(("/lib", "/usr")) else f"{OWN}/{Path(path).name}": Path(
            path
        )
        for path in found
    }


def _layer(extra: str, packages: Iterable[str], module: str) -> bytes:
    packed = io.BytesIO()
    content = dict(_files(extra, packages))
    content |= _libraries(content.values())
    with tarfile.open(fileobj=packed, mode="w") as layer:
        for folder in ("tmp", "etc", "proc", "sys", "dev", "bin", "var/lib/mk8s"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(entry)
        for name, path in content.items():
            entry = layer.gettarinfo(path.resolve(), name)
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            entry.uid = entry.gid = 0
            entry.type = tarfile.REGTYPE
            with path.open("rb") as file:
                layer.addfile(entry, file)
        program = f'#!/bin/sh\nexec /{PYTHON}/bin/python3 -m {module} "$@"\n'
        _add(layer, f"bin/{module.replace('_', '-').replace('proxy', 'central')}", program.encode())
        _add(layer, "etc/passwd", b"mk8s:x:10001:10001::/var/lib/mk8s:/bin/sh\n", 0o644)
        _add(layer, "etc/hosts", b"127.0.0.1 localhost\n", 0o644)
        _add(layer, "bin/sh", SHELL.read_bytes())
    return packed.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def write(path: Path, name: str) -> None:
    """Write the image of the agent or of central as an archive for `ctr images import`."""
    is_agent = name == AGENT
    module = "mk8s_agent" if is_agent else "mk8s_proxy"
    packages = ("mk8s_agent",) if is_agent else ("mk8s_agent", "mk8s_proxy")
    layer = _layer("agent" if is_agent else "central", packages, module)
    program = "mk8s-agent" if is_agent else "mk8s-central"
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {
                "Entrypoint": [f"/bin/{program}"],
                "User": "10001",
                "Env": [
                    "PATH=/bin",
                    f"PYTHONHOME=/{PYTHON}",
                    f"PYTHONPATH=/{SITE}",
                    f"LD_LIBRARY_PATH=/{OWN}",
                    "PYTHONDONTWRITEBYTECODE=1",
                    "PYTHONUNBUFFERED=1",
                ],
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    digest = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", layer)
        _add(archive, f"{digest}.json", config)
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def load(kubeconfig: Path, name: str, folder: Path) -> None:
    """Put an image of ours into the node of a test cluster."""
    archive = folder / f"{name.rpartition('/')[2].partition(':')[0]}.tar"
    write(archive, name)
    socket = kubeconfig.parent / "containerd" / "sock"
    command = ["ctr", "-a", socket, "-n", "k8s.io", "images", "import", archive]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    archive.unlink()
