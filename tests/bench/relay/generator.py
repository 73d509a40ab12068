"""The leading side of the load generator: starts `load` for one target and talks to it."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.relay.launch import Services
from tests.bench.relay.load_sockets import LoadError
from tests.bench.relay.targets import BODY_BYTES, SMALL_PATHS, Target

HTTP2, HTTP1 = "h2", "http/1.1"


class Generator:
    """A generator process with its connections to one target.

    Raises:
        LoadError: from every call, when the target's answers were not those expected.
    """

    def __init__(
        self,
        services: Services,
        target: Target,
        *,
        protocol: str = HTTP2,
        connections: int = 1,
        paths: tuple[str, ...] = SMALL_PATHS,
        size: tuple[int, int] = (BODY_BYTES, BODY_BYTES),
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.relay.load"],
            env=services.plain(),
            cwd=Path(__file__).resolve().parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        address = target.address
        if protocol == HTTP1 and target.address_http1 is not None:
            address = target.address_http1
        requests = target.write_requests(services.folder, paths, f"{len(paths)}-{hash(paths)}")
        self._plan = {
            "address": address,
            "name": "localhost",
            "authority": str(target.authority),
            "protocol": protocol,
            "connections": connections,
            "requests": str(requests),
            "least": size[0],
            "most": size[1],
        }

    @property
    def pid(self) -> int:
        """Of the generator's process, for its own CPU."""
        return self._process.pid

    def tell(self, do: str, **plan: Any) -> None:
        """Sends a command without waiting for its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **plan}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The answer to the last command."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("the load generator ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadError(answer["error"])
        return answer

    def ask(self, do: str, **plan: Any) -> dict[str, Any]:
        """A command and its answer."""
        self.tell(do, **plan)
        return self.hear()

    def __enter__(self) -> Self:
        try:
            self.ask("open", **self._plan)
        except BaseException:
            self._end()
            raise
        return self

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._end()
