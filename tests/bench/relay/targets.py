"""What is measured: one way from a client to the API server, and where its processes are."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.relay.accounting import cpu_seconds, family, pss_bytes

USERS = 200
PATHS = 200
BODY_BYTES = 2048
BULK_BYTES = 20 << 20
_NAMESPACE = "/api/v1/namespaces/default"

SMALL_PATHS = tuple(f"{_NAMESPACE}/configmaps/item-{number:03}" for number in range(PATHS))
BULK_PATH = f"{_NAMESPACE}/configmaps/bulk"
LONG_PATH = f"{_NAMESPACE}/configmaps/long"
LONG_BYTES = 256 << 20
WATCH_PATH = f"{_NAMESPACE}/pods?watch=true"
LIST_PATH = "/api/v1/configmaps"
LIST_ITEMS = 5000
EXEC_PATH = f"{_NAMESPACE}/pods/item-000/exec?command="


@dataclass(frozen=True, slots=True)
class Target:
    """A way to the API server."""

    name: str
    address: tuple[str, int]
    authority: Path
    """The CA that its certificate for localhost is verified with."""
    tokens: Sequence[str]
    pids: Mapping[str, int] = field(default_factory=dict)
    """Root process by part: "central" and "agent", or "proxy"; empty when there is none."""
    prefix: str = ""
    """What stands before the Kubernetes path."""
    address_http1: tuple[str, int] | None = None
    """Where http/1.1 is asked, if elsewhere."""

    def processes(self, part: str) -> list[int]:
        """Every process of a part."""
        return family(self.pids[part])

    def cpu(self) -> dict[str, float]:
        """CPU seconds by part up to now."""
        return {part: cpu_seconds(self.processes(part)) for part in self.pids}

    def memory(self) -> dict[str, int]:
        """PSS by part, in bytes."""
        return {part: pss_bytes(self.processes(part)) for part in self.pids}

    def write_requests(self, folder: Path, paths: Sequence[str], label: str) -> Path:
        """A file of as many (path, token) pairs as there are tokens or paths, for the generator."""
        count = max(len(paths), len(self.tokens))
        pairs = [
            [self.prefix + paths[number % len(paths)], self.tokens[number % len(self.tokens)]]
            for number in range(count)
        ]
        file = folder / f"{self.name}-{label}.json".replace(" ", "-")
        file.touch(mode=0o600)
        file.write_text(json.dumps(pairs))
        return file
