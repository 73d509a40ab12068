"""The errors that a person can cause or mend; `main.py` prints each as one line, without traceback.

Everything else that escapes a command is a bug and keeps its traceback.
"""


class CliError(Exception):
    """A refusal or failure with one line that says what to do; the program ends with 1."""

    exit_code = 1


class NotLoggedIn(CliError):
    """There is no usable login at this central."""

    def __init__(self, again: str, why: str = "not logged in") -> None:
        """Compose the line: `why` is what happened, `again` the words behind mk8s login."""
        super().__init__(f"{why}; run: mk8s login {again}".rstrip())


class UnsafeFile(CliError):
    """A file that holds secrets is a link, is someone else's, or can be read by others."""


class Unwritable(CliError):
    """A file cannot be written: read-only, full, or not ours to write."""

    def __init__(self, message: str, *, is_full: bool = False) -> None:
        """`is_full`: there is no room, which is worth a word even where work can go on."""
        super().__init__(message)
        self.is_full = is_full


class Unreachable(CliError):
    """No answer came from central: refused, timed out, not resolved, or TLS failed."""


class UntrustedCertificate(Unreachable):
    """Central's certificate is signed by an authority that nobody has vouched for yet."""


class Refused(CliError):
    """Central answered with an error status."""

    def __init__(
        self, code: int, message: str, retry_after: float | None = None, word: str = ""
    ) -> None:
        """Keep the status `code`, and `retry_after` in seconds when central named it.

        `word` is the refusal in OAuth's vocabulary (RFC 8628, 3.5), where it has one.
        """
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.word = word
