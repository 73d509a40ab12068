"""Why somebody is not let in by an issuer's word. Raised in this room, answered by `api`."""


class Refused(Exception):
    """What an issuer or a browser brought is not good.

    Attributes:
        reason: A stable word for log and audit, e.g. "ID_TOKEN_EXPIRED".
        message: One line that says what to do, without any part of a credential.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UnknownKey(Refused):
    """The token names a key that is not known: perhaps one that is new."""


class Ended(Refused):
    """The issuer takes the refresh token no more: whoever it was given for is out."""


class Unreachable(Exception):
    """The issuer gave no usable answer: nothing can be said of the person.

    The message is one line, without any part of a credential.
    """
