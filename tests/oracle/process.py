"""The running oracle: questions in batches, answers as plain values."""

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = "MK8S_TEST_ORACLE"
"""The variable that names the built program."""

Reading = dict[str, Any]
"""What Kubernetes reads; the names are those of the JSON in `main.go`, texts are bytes."""


def program() -> Path | None:
    """The built oracle, if there is one."""
    named = os.environ.get(PROGRAM, "")
    return Path(named) if named else None


class Oracle:
    """One process of the oracle; ends with its block."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, questions: Sequence[tuple[str, bytes, bytes]]) -> list[Reading]:
        """The answers to (ask, method, text), in their order; see `question` in `main.go`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = [
            {"ask": ask, "method": _encoded(method), "text": _encoded(text)}
            for ask, method, text in questions
        ]
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return [_decoded(answer) for answer in json.loads(self._process.stdout.readline())]

    def request(self, method: bytes, target: bytes) -> Reading:
        """How a request line is read."""
        return self.ask([("request", method, target)])[0]

    def watch(self, content_type: bytes, body: bytes) -> list[tuple[str, Any]]:
        """Type and object of each event of a watch.

        Raises:
            ValueError: client-go would read no such events.
        """
        [found] = self.ask([("watch", content_type, body)])
        if found["error"]:
            raise ValueError(found["error"])
        return [(event["type"], event["object"]) for event in found.get("events", ())]

    def labels(self, text: bytes) -> bool:
        """Whether a label selector parses."""
        return not self.ask([("labels", b"", text)])[0]["error"]

    def fields(self, text: bytes) -> list[tuple[bytes, bool, bytes]] | None:
        """The terms of a field selector: field, whether equal, value. None: it does not parse."""
        [found] = self.ask([("fields", b"", text)])
        if found["error"]:
            return None
        return [
            (base64.b64decode(one["field"]), one["equal"], base64.b64decode(one["value"] or ""))
            for one in found["terms"] or ()
        ]

    def proxied(self, no_proxy: str, url: str) -> bool | None:
        """Whether a Go program takes HTTPS_PROXY to an https URL; None where it is no URL."""
        [found] = self.ask([("proxy", no_proxy.encode(), url.encode())])
        return None if found["error"] else bool(found["path"])

    def covered(
        self,
        everywhere: Sequence[Reading],
        namespaced: Mapping[str, Sequence[Reading]],
        needs: Sequence[Reading],
    ) -> list[bool]:
        """Whether rules of RBAC, of a ClusterRole and of Roles by namespace, hold others.

        Each of `needs` has a `namespace`, "" for none, and the `rule` that a request needs.
        """
        asked = {"everywhere": everywhere, "namespaced": namespaced, "needs": needs}
        [found] = self.ask([("rbac", b"", json.dumps(asked).encode())])
        assert not found["error"], found["error"]
        return list(found.get("covered", ()))

    def int64(self, text: bytes) -> int | None:
        """The number, None where strconv.ParseInt refuses it."""
        [found] = self.ask([("int64", b"", text)])
        return None if found["error"] else int(found["list"]["limit"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(10)


_TEXTS = (
    "path", "api_group", "api_version", "namespace", "resource", "subresource", "name",
    "field_selector", "label_selector",
)  # fmt: skip
_LIST_TEXTS = (
    "continue", "resourceVersion", "resourceVersionMatch", "shardSelector", "includeObject",
    "labelSelector", "fieldSelector",
)  # fmt: skip


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(answer: Reading) -> Reading:
    for key in _TEXTS:
        answer[key] = base64.b64decode(answer[key] or "")
    options = answer.get("list")
    for key in _LIST_TEXTS if options else ():
        options[key] = base64.b64decode(options[key] or "")
    return answer
