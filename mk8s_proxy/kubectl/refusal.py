"""Why a command is not run."""


class CommandRefused(Exception):
    """The arguments cannot be read, or ask for what is not done for callers.

    Attributes:
        message: One line that says what to do, safe to show.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def shown(argument: str) -> str:
    """An argument as it may stand in a message: printable and short."""
    text = "".join(char if char.isprintable() else "?" for char in argument)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


_LONGEST = 60
