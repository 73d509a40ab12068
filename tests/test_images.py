"""The images' recipes, as far as they can be tested without a registry for their base.

What they run is run here: the selection of the lock, and the wheel of nothing but what is copied.
"""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mk8s_proxy.settings.model import Settings

CHECKOUT = Path(__file__).resolve().parents[1]
DOCKER = CHECKOUT / "deploy" / "docker"
IMAGES = ("central", "agent")
INSTRUCTIONS = {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE"} | {
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}


def instructions(image: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile with its words."""
    text = re.sub(r"(?m)^#.*\n", "", (DOCKER / f"{image}.Dockerfile").read_text())
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, words = line.partition(" ")
            yield name, " ".join(words.split())


def of(image: str, name: str) -> list[str]:
    return [words for it, words in instructions(image) if it == name]


def distributions(extra: str) -> set[str]:
    """The installed distributions that an extra of ours means, and what they need."""
    found: set[str] = set()
    waiting = [("mk8s", extra)]
    while waiting:
        name, wanted = waiting.pop()
        for requirement in importlib.metadata.requires(name) or ():
            match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?[^;]*(?:;(.*))?", requirement)
            assert match is not None
            other, extras, marker = match[1].lower(), match[2] or "", match[3] or ""
            if "extra ==" in marker and f"'{wanted}'" not in marker.replace('"', "'"):
                continue
            for more in extras.split(",") if extras else [""]:
                if f"{other}[{more}]" not in found and _is_installed(other):
                    found.add(f"{other}[{more}]")
                    waiting.append((other, more))
    return {name.partition("[")[0] for name in found} - {"mk8s"}


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def locked(*extras: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, DOCKER / "locked.py", *extras]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("image", IMAGES)
def test_a_recipe_is_made_of_known_instructions(image: str) -> None:
    assert {name for name, _ in instructions(image)} <= INSTRUCTIONS


@pytest.mark.parametrize("image", IMAGES)
def test_every_base_can_be_pinned_by_its_digest(image: str) -> None:
    """Either an argument, or a stage of the same file."""
    stages = {words.partition(" AS ")[2] for words in of(image, "FROM")}
    arguments = {f"${{{words.partition('=')[0]}}}" for words in of(image, "ARG")}
    assert {words.partition(" AS ")[0] for words in of(image, "FROM")} <= stages | arguments


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_is_installed_without_its_hash(image: str) -> None:
    installs = [it for words in of(image, "RUN") for it in words.split("&&") if "pip install" in it]
    assert len(installs) == 3
    for command in installs:
        assert "--require-hashes" in command or "--no-deps --no-index /wheels/" in command


@pytest.mark.parametrize("image", IMAGES)
def test_what_is_copied_is_there_and_no_credential(image: str) -> None:
    for words in of(image, "COPY"):
        if words.startswith("--from"):
            continue
        for source in words.split()[:-1]:
            assert source != "."
            assert (CHECKOUT / source).exists(), source
    ignored = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert "**/agent-kubeconfig" in ignored
    for place in (
        "agent-kubeconfig",
        "deploy/docker/agent-kubeconfig",
        "mk8s_agent/agent-kubeconfig",
    ):
        command = ["git", "check-ignore", "-q", place]
        assert subprocess.run(command, cwd=CHECKOUT).returncode == 0, place


@pytest.mark.parametrize("image", IMAGES)
def test_the_wheel_in_it_is_compiled(image: str) -> None:
    (build,) = [words for words in of(image, "RUN") if "pip wheel" in words]
    assert build.startswith("MK8S_COMPILE=1 ")


@pytest.mark.parametrize("image", IMAGES)
def test_it_runs_as_the_user_that_the_chart_names(image: str) -> None:
    name = {"central": "statefulset", "agent": "deployment"}[image]
    template = (CHECKOUT / f"deploy/helm/{image}/templates/{name}.yaml").read_text()
    (user,) = set(of(image, "USER"))
    assert f"runAsUser: {user}\n" in template
    assert f"fsGroup: {user}\n" in template


@pytest.mark.parametrize("image", IMAGES)
def test_its_health_is_asked_where_it_is_served(image: str) -> None:
    (check,) = of(image, "HEALTHCHECK")
    served = Settings.__dataclass_fields__["admin_listen"].default
    if image == "agent":
        served = re.search(r"MK8S_AGENT_HEALTH_LISTEN=(\S+)", of(image, "ENV")[0])[1]  # type: ignore[index]
    assert f"http://{served}/livez" in check


def test_the_agent_of_compose_may_read_its_kubeconfig() -> None:
    """It is its owner's alone, so the container runs as that; the identity's folder takes any."""
    agent = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["agent"]
    assert agent["user"] == "${AGENT_UID:-1000}:${AGENT_GID:-1000}"
    assert any(it.startswith("./agent-kubeconfig:") for it in agent["volumes"])
    assert any("chmod 1777 /var/lib/mk8s-agent" in words for words in of("agent", "RUN"))


@pytest.mark.parametrize("extras", [("agent",), ("base", "central"), ("release",)], ids="-".join)
def test_the_selection_of_the_lock_is_whole(extras: tuple[str, ...]) -> None:
    text = locked(*extras).stdout
    names = set(re.findall(r"(?m)^([a-z0-9][a-z0-9-]*)==", text))
    needed = {re.sub(r"[._]", "-", it) for it in distributions(extras[-1]) if extras[-1]}
    base = {re.sub(r"[._]", "-", it) for it in distributions("")}
    assert needed - base <= names
    assert ("keyring" in names) is ("base" in extras)
    for entry in re.split(r"\n(?=[a-z])", text.strip()):
        assert "--hash=sha256:" in entry
    if "central" not in extras:
        assert "sqlalchemy" not in names


def test_an_extra_that_is_not_there_is_told() -> None:
    assert "no extra colour" in locked("colour", code=1).stderr


def test_the_wheel_of_what_the_agents_image_copies_is_the_agent_alone(tmp_path: Path) -> None:
    for words in of("agent", "COPY"):
        if not words.startswith("--from"):
            *sources, target = words.split()
            for source in sources:
                place = tmp_path / target / source if target == "./" else tmp_path / target
                place.parent.mkdir(parents=True, exist_ok=True)
                whole = shutil.copytree if (CHECKOUT / source).is_dir() else shutil.copy
                whole(CHECKOUT / source, place)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "out", "."]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
    assert {it for it in top if not it.endswith(".dist-info")} == {"mk8s_agent"}
