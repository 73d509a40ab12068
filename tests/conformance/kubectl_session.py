"""One kubectl binary at one place: what `kubectl_*.py` write their operations with.

Every call is noted as an outcome: exit code, both streams and, from the versions whose log can be
asked for without changing anything else, the requests that were made.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.outcome import Outcome, Unavailable
from tests.conformance.place import Place
from tests.support.processes import Program

LOGS_REQUESTS = (1, 27)
"""Since then `-v=6` leaves messages and exit codes alone."""
REQUEST = re.compile(
    r"^I\d{4} .*?(?:\] (?P<verb>[A-Z]+) (?P<url>https?://\S+) (?P<status>.+) in \d+ milliseconds"
    r'|"Response" verb="(?P<verb2>[A-Z]+)" url="(?P<url2>[^"]+)" status="(?P<status2>[^"]*)")',
    re.MULTILINE,
)
SERVER_OBJECT = re.compile(
    r"^I\d{4} .*server response object: .*?^\}\]\n?", re.MULTILINE | re.DOTALL
)


def requests_in(log: str) -> tuple[str, ...]:
    """Method, URL and status of each request that a log of kubectl tells of."""
    return tuple(
        f"{found['verb'] or found['verb2']} {_ordered(found['url'] or found['url2'])} "
        f"{found['status'] or found['status2']}"
        for found in REQUEST.finditer(log)
    )


def _ordered(url: str) -> str:
    """A URL whose field selector's terms are in order: clients compose them from a map."""
    before, name, rest = url.partition("fieldSelector=")
    selector, ampersand, after = rest.partition("&")
    terms = sorted(selector.split("%2C"), key=lambda term: term.partition("%3D")[0])
    return f"{before}{name}{'%2C'.join(terms)}{ampersand}{after}"


@dataclass(slots=True)
class KubectlSession:
    """One run of the operations with one kubectl at one place."""

    binary: Path
    version: tuple[int, int]
    place: Place
    namespace: str
    folder: Path
    """For files of the operations; of its own for each session."""
    outcomes: list[Outcome] = field(default_factory=list)

    def __call__(
        self,
        *arguments: str,
        stdin: str = "",
        seconds: float = 60,
        show: Callable[[str], str] = str,
        settings: Mapping[str, str] | None = None,
        facts: bool = True,
        works: bool = False,
    ) -> str:
        """Run to the end and note it; the standard output.

        Args:
            show: what of the output counts, e.g. its last line where the others depend on time.
            settings: more environment variables.
            facts: whether the requests made depend on nothing but the operation.
            works: whether a failure breaks the operation: two equal failures prove little.
        """
        done = self.quiet(*arguments, stdin=stdin, seconds=seconds, settings=settings)
        errors = SERVER_OBJECT.sub("", done.stderr)
        seen = requests_in(done.stderr) if facts else ()
        step = " ".join(word if len(word) < 60 else f"{word[:60]}..." for word in arguments)
        outcome = Outcome(step, done.returncode, show(done.stdout), errors, seen)
        self.outcomes.append(outcome)
        if works and done.returncode:
            said = re.sub(r"^I\d{4} .*\n?", "", errors, flags=re.MULTILINE)
            raise RuntimeError(f"kubectl {step}: {said.strip()[-200:]}")
        return done.stdout

    def quiet(
        self,
        *arguments: str,
        stdin: str = "",
        seconds: float = 60,
        settings: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end without noting it: what an operation needs first."""
        return subprocess.run(
            [*self.command(), *arguments],
            env={**self.place.environment, **(settings or {})},
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            cwd=self.folder,
        )

    def command(self) -> list[str]:
        """The words before those of an operation."""
        verbose = ["-v=6"] if self.version >= LOGS_REQUESTS else []
        return [str(self.binary), "-n", self.namespace, *verbose]

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Program]:
        """Run in the background, ended with the block."""
        words = [str(self.binary), "-n", self.namespace, *arguments]
        program = Program(f"kubectl {arguments[0]}", words, self.place.environment)
        try:
            yield program
        finally:
            program.stop()

    def note(self, step: str, output: str, *, code: int = 0, errors: str = "") -> None:
        """Note what was seen otherwise than by running kubectl to its end."""
        self.outcomes.append(Outcome(step, code, output, errors))

    def write(self, name: str, content: str | bytes) -> Path:
        """A file for the operation."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def needs(self, version: tuple[int, int], what: str) -> None:
        """Raise Unavailable with an older kubectl."""
        if self.version < version:
            raise Unavailable(f"kubectl has {what} since {version[0]}.{version[1]}")


Operation = Callable[[KubectlSession], None]
OPERATIONS: dict[str, Operation] = {}


def operation(key: str) -> Callable[[Operation], Operation]:
    """Register what kubectl does for a row of the table."""

    def register(function: Operation) -> Operation:
        OPERATIONS[key] = function
        return function

    return register


def last_line(text: str) -> str:
    """The last line: of progress that depends on time, only the end counts."""
    return text.strip().rsplit("\n", 1)[-1]


def nothing(_: str) -> str:
    """Only the exit code counts."""
    return ""


def ordered_managers(text: str) -> str:
    """JSON with managedFields in an order of its own.

    The API server orders them by time, in whole seconds: which of two comes first is chance.
    """
    found = json.loads(text or "{}")
    managers = found.get("metadata", {}).get("managedFields", [])
    managers.sort(key=lambda entry: (entry["manager"], entry["operation"], str(entry["fieldsV1"])))
    return json.dumps(found, indent=4)


def sorted_lines(text: str) -> str:
    """Lines in no order."""
    return "\n".join(sorted(text.splitlines()))


def words(text: str) -> Sequence[str]:
    """Arguments from one readable string."""
    return text.split()


def binaries_of(listed: str) -> list[Path]:
    """Paths separated as in PATH."""
    return [Path(word) for word in listed.split(os.pathsep) if word]
