"""The small shell that `kubectl exec` finds in every pod; run by `exec`.

Commands: echo, env, hostname, whoami, date, cat, true, false, exit, sh [-c], help. Nothing of it
touches the machine it runs on.
"""

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

PROMPT = b"demo:/# "
HELP = "the shell of the mk8s demo: echo env hostname whoami date cat true false exit sh help"


class Streams(Protocol):
    """The streams of one session."""

    async def read(self) -> bytes:
        """Some bytes of stdin, b"" at its end."""

    async def write(self, raw: bytes) -> None:
        """Bytes for stdout."""

    async def error(self, raw: bytes) -> None:
        """Bytes for stderr."""


class Exit(Exception):
    """The shell was told to exit with a code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Shell:
    """A session in one container."""

    streams: Streams
    environment: dict[str, str]
    tty: bool

    async def run(self, command: list[str]) -> int:
        """Runs a command line; returns its exit code."""
        try:
            return await self._run(command)
        except Exit as end:
            return end.code

    async def _run(self, command: list[str]) -> int:
        name, arguments = command[0].rpartition("/")[2], command[1:]
        if name in {"sh", "bash"}:
            return (
                await self._script(arguments[1])
                if arguments[:1] == ["-c"]
                else await self._read_lines()
            )
        if name == "cat":
            return await self._cat()
        if name == "exit":
            code = arguments[0] if arguments else "0"
            raise Exit(int(code) & 255 if code.isdecimal() else 2)
        simple = self._simple(name, arguments)
        if simple is None:
            await self.streams.error(self._lines(f"sh: {name}: not found (try: help)\n"))
            return 127
        output, code_number = simple
        await self.streams.write(self._lines(output))
        return code_number

    def _simple(self, name: str, arguments: list[str]) -> tuple[str, int] | None:
        """Output and exit code of a command without input, None if there is no such command."""
        commands: dict[str, Callable[[], str]] = {
            "echo": lambda: " ".join(self._expand(word) for word in arguments) + "\n",
            "env": lambda: "".join(f"{key}={value}\n" for key, value in self.environment.items()),
            "hostname": lambda: self.environment["HOSTNAME"] + "\n",
            "whoami": lambda: "root\n",
            "date": lambda: f"{datetime.now(UTC):%a %b %e %H:%M:%S UTC %Y}\n",
            "help": lambda: HELP + "\n",
            "true": str,
            "false": str,
        }
        return (commands[name](), int(name == "false")) if name in commands else None

    def _expand(self, word: str) -> str:
        return self.environment.get(word[1:], "") if word.startswith("$") else word

    def _lines(self, text: str) -> bytes:
        return text.replace("\n", "\r\n").encode() if self.tty else text.encode()

    async def _script(self, text: str) -> int:
        code = 0
        for line in text.replace("&&", ";").replace("\n", ";").split(";"):
            try:
                words = shlex.split(line, comments=True)
            except ValueError as error:
                await self.streams.error(self._lines(f"sh: {error}\n"))
                words, code = [], 2
            if words:
                code = await self._run(words)
        return code

    async def _cat(self) -> int:
        async def show(line: bytes) -> None:
            await self.streams.write(self._lines(line.decode(errors="replace") + "\n"))

        if self.tty:
            await self._edit_lines(show, b"")
            return 0
        while chunk := await self.streams.read():
            await self.streams.write(chunk)
        return 0

    async def _read_lines(self) -> int:
        """An interactive shell, or one that reads a script from stdin."""
        code = 0

        async def run(line: bytes) -> None:
            nonlocal code
            code = await self._script(line.decode(errors="replace"))

        if self.tty:
            await self.streams.write(PROMPT)
            await self._edit_lines(run, PROMPT)
            return code
        rest = b""
        while chunk := await self.streams.read():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                await run(line)
        await run(rest)
        return code

    async def _edit_lines(self, use: Callable[[bytes], Awaitable[None]], prompt: bytes) -> None:
        """The line discipline of a terminal: echo, erase, Ctrl-C, Ctrl-D."""
        line = b""
        while chunk := await self.streams.read():
            for byte in chunk:
                key = bytes([byte])
                if key in b"\r\n":
                    await self.streams.write(b"\r\n")
                    await use(line)
                    line = b""
                    await self.streams.write(prompt)
                elif key == b"\x04" and not line:
                    await self.streams.write(b"\r\n")
                    return
                elif key == b"\x03":
                    line = b""
                    await self.streams.write(b"^C\r\n" + prompt)
                elif key in b"\x7f\x08":
                    await self.streams.write(b"\b \b" if line else b"")
                    line = line[:-1]
                elif key >= b" ":
                    line += key
                    await self.streams.write(key)
