"""The small echo shell that `kubectl exec` finds in every pod; run by `remote_command`.

Commands: see HELP. Nothing of it touches the machine it runs on.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

PROMPT = b"demo:/# "
HELP = "the shell of the mk8s demo: echo env cat true false exit sh help\n"


class Exit(Exception):
    """The shell was told to exit; the code is the argument."""


@dataclass(slots=True)
class Shell:
    """A session in one container; `send` takes "stdout" or "stderr" and bytes for it."""

    send: Callable[[str, bytes], Awaitable[None]]
    environment: dict[str, str]
    tty: bool
    _input: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    def feed(self, raw: bytes) -> None:
        """Bytes of stdin; b"" is its end."""
        self._input.put_nowait(raw)

    async def run(self, command: list[str]) -> int:
        """Runs a command line; returns its exit code."""
        try:
            return await self._run(command)
        except Exit as end:
            return int(end.args[0])

    async def _run(self, command: list[str]) -> int:
        name, arguments = command[0].rpartition("/")[2], command[1:]
        if name == "exit":
            code = "".join(arguments[:1]) or "0"
            raise Exit(int(code) & 255 if code.isdecimal() else 2)
        if name in {"sh", "bash"}:
            is_script = arguments[:1] == ["-c"]
            return await (self._script(" ".join(arguments[1:2])) if is_script else self._sh())
        if name == "cat":
            return await self._cat()
        words = [self.environment.get(it[1:], "") if it[:1] == "$" else it for it in arguments]
        variables = "".join(f"{key}={value}\n" for key, value in self.environment.items())
        outputs = {"echo": " ".join(words) + "\n", "env": variables, "help": HELP}
        if name not in {*outputs, "true", "false"}:
            await self._say("stderr", f"sh: {name}: not found (try: help)\n")
            return 127
        await self._say("stdout", outputs.get(name, ""))
        return int(name == "false")

    async def _say(self, stream: str, text: str) -> None:
        """Text for stdout or stderr; a terminal has only one output, and its own line ends."""
        if self.tty:
            stream, text = "stdout", text.replace("\n", "\r\n")
        if text:
            await self.send(stream, text.encode())

    async def _script(self, text: str) -> int:
        code = 0
        for line in text.replace("&&", ";").replace("\n", ";").split(";"):
            try:
                words = shlex.split(line, comments=True)
            except ValueError as error:
                await self._say("stderr", f"sh: {error}\n")
                words, code = [], 2
            if words:
                code = await self._run(words)
        return code

    async def _sh(self) -> int:
        """An interactive shell, or one that reads a script from stdin."""
        code = 0
        async for line in self._lines(PROMPT):
            code = await self._script(line) if line.strip() else code
        return code

    async def _cat(self) -> int:
        if self.tty:
            async for line in self._lines(b""):
                await self._say("stdout", line + "\n")
        while not self.tty and (chunk := await self._read()):
            await self.send("stdout", chunk)
        return 0

    async def _read(self) -> bytes:
        raw = await self._input.get()
        if not raw:
            self.feed(b"")  # the end stays the end
        return raw

    async def _lines(self, prompt: bytes) -> AsyncIterator[str]:
        """The lines of stdin; a terminal shows what is typed: erase, Ctrl-C, Ctrl-D."""
        line, echo = b"", prompt
        await self._echo(echo)
        while chunk := await self._read():
            for key in (chunk[at : at + 1] for at in range(len(chunk))):
                if key == b"\x04" and self.tty and not line:
                    await self._echo(b"\r\n")
                    return
                if key in b"\r\n":
                    await self._echo(b"\r\n")
                    yield line.decode(errors="replace")
                    line, echo = b"", prompt
                elif self.tty and key in b"\x03\x7f\x08":
                    echo = b"^C\r\n" + prompt if key == b"\x03" else b"\b \b" if line else b""
                    line = b"" if key == b"\x03" else line[:-1]
                else:
                    line, echo = line + key, key
                await self._echo(echo)
        yield line.decode(errors="replace")

    async def _echo(self, raw: bytes) -> None:
        if self.tty and raw:
            await self.send("stdout", raw)
