"""Every stock kubectl of the machine as a client of the runner."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import (
    kubectl_access,
    kubectl_newer,
    kubectl_pods,
    kubectl_reading,
    kubectl_writing,
)
from tests.conformance.kubectl_session import OPERATIONS, KubectlSession
from tests.conformance.outcome import Outcome
from tests.conformance.place import Place
from tests.support import kubectl as kubectls

# Importing these modules is what registers their operations.
CHAPTERS = (kubectl_access, kubectl_newer, kubectl_pods, kubectl_reading, kubectl_writing)


@dataclass(slots=True)
class RunningKubectl:
    """Performs the registered operations, one after the other."""

    session: KubectlSession

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.session.place

    def perform(self, key: str) -> list[Outcome]:
        """Do one operation; its steps."""
        self.session.outcomes = []
        OPERATIONS[key](self.session)
        return self.session.outcomes

    def close(self) -> None:
        """Nothing stays."""


@dataclass(frozen=True, slots=True)
class KubectlClient:
    """One binary."""

    binary: Path
    version: tuple[int, int]

    @property
    def name(self) -> str:
        """The column's title."""
        return f"kubectl {self.version[0]}.{self.version[1]}"

    def keys(self) -> Mapping[str, str]:
        """All that is registered."""
        return dict.fromkeys(OPERATIONS, "")

    def open(self, place: Place, namespace: str, folder: Path) -> RunningKubectl:
        """Begin at a place."""
        session = KubectlSession(self.binary, self.version, place, namespace, folder)
        return RunningKubectl(session)


def found() -> list[KubectlClient]:
    """One client for each version, oldest first."""
    versions = {kubectls.version_of(binary): binary for binary in kubectls.binaries()[::-1]}
    return [KubectlClient(versions[version], version) for version in sorted(versions)]
