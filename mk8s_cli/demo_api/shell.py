"""The small echo shell that `kubectl exec` finds in every pod; run by `remote_command`.

Nothing of it touches the machine it runs on.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mk8s_cli.demo_api import file_commands
from mk8s_cli.demo_api.files import FileError, Files
from mk8s_cli.demo_api.inlet import CHUNK_BYTES

PROMPT = b"demo:/# "
COMMANDS = "echo env cat true false exit sh ls rm sha256sum tar test"
ERASE, CTRL_C, CTRL_D = {b"\x7f", b"\b"}, b"\x03", b"\x04"
Send = Callable[[str, bytes], Awaitable[None]]


class Exit(Exception):
    """The shell was told to exit; the code is the argument."""


@dataclass(slots=True)
class Shell:
    """A session in one container; `send` takes "stdout" or "stderr" and bytes for it."""

    send: Send
    environment: dict[str, str]
    tty: bool
    stdin: asyncio.StreamReader
    files: Files

    async def run(self, command: list[str]) -> int:
        """Runs a command line; returns its exit code."""
        try:
            return await self._run(*command)
        except Exit as end:
            return int(end.args[0])

    async def _run(self, command: str, *arguments: str) -> int:
        match command.rpartition("/")[2], *arguments:
            case ["true" | "false" as name, *_]:
                return int(name == "false")
            case ["exit", *codes]:
                text = "".join(codes[:1]) or "0"
                raise Exit(int(text) & 255 if text.isdecimal() else 2)
            case ["sh" | "bash", "-c", script, *_]:
                return await self._script(script)
            case ["sh" | "bash", *_]:
                code = 0
                while (line := await self._line(PROMPT)) is not None:
                    code = await self._script(line) if line.strip() else code
                return code
            case ["cat"]:
                return await self._cat()
            case ["echo", *words]:
                known = self.environment
                words = [known.get(it[1:], "") if it[:1] == "$" else it for it in words]
                return await self._say("stdout", " ".join(words) + "\n")
            case ["env", *_]:
                lines = (f"{key}={value}\n" for key, value in self.environment.items())
                return await self._say("stdout", "".join(lines))
            case [name, *words] if name in file_commands.NAMES:
                return await self._on_files(name, words)
        await self._say("stderr", f"sh: {command}: not found; there are {COMMANDS}\n")
        return 127

    async def _say(self, stream: str, text: str) -> int:
        """Text for stdout or stderr; a terminal has only one output, and its own line ends."""
        if self.tty:
            stream, text = "stdout", text.replace("\n", "\r\n")
        await self.send(stream, text.encode())
        return 0

    async def _script(self, text: str) -> int:
        code = 0
        for line in text.replace("&&", ";").replace("\n", ";").split(";"):
            try:
                words = shlex.split(line, comments=True)
            except ValueError as error:
                await self._say("stderr", f"sh: {error}\n")
                words, code = [], 2
            if words:
                code = await self._run(*words)
        return code

    async def _cat(self) -> int:
        while self.tty and (line := await self._line(b"")) is not None:
            await self._say("stdout", line + "\n")
        while not self.tty and (chunk := await self.stdin.read(CHUNK_BYTES)):
            await self.send("stdout", chunk)
        return 0

    async def _on_files(self, name: str, words: list[str]) -> int:
        """A command that works on files; output goes out as it comes, also before a failure."""
        if name == "test":
            return int(words[:1] != ["-d"] or not self.files.is_directory(words[-1]))
        try:
            async for raw in file_commands.output(self.files, self.stdin, name, words):
                shown = raw.replace(b"\n", b"\r\n") if self.tty else raw
                for at in range(0, len(shown), CHUNK_BYTES):
                    await self.send("stdout", shown[at : at + CHUNK_BYTES])
        except (FileError, ValueError) as error:
            await self._say("stderr", f"{name}: {error}\n")
            return 1
        return 0

    async def _line(self, prompt: bytes) -> str | None:
        """A line of stdin, None at the end; a terminal shows what is typed and knows Ctrl-C."""
        line, shown = b"", prompt
        while True:
            if self.tty and shown:
                await self.send("stdout", shown)
            key = await self.stdin.read(1)
            if key in {b"", b"\r", b"\n"} or (self.tty and key == CTRL_D and not line):
                break
            if self.tty and key in ERASE:
                line, shown = line[:-1], b"\b \b" if line else b""
            elif self.tty and key == CTRL_C:
                line, shown = b"", b"^C\r\n" + prompt
            else:
                line, shown = line + key, key
        if self.tty:
            await self.send("stdout", b"\r\n")
        ended = key in {b"", CTRL_D} and not line
        return None if ended else line.decode(errors="replace")
