"""What a store may raise. The management API turns each into one HTTP answer."""


class StoreError(Exception):
    """Base of all store errors; the message is one sentence that may be shown to an admin."""


class NotFound(StoreError):
    """The named thing does not exist."""

    def __init__(self, kind: str, key: str = "") -> None:
        self.kind = kind
        self.key = key
        super().__init__(f'{kind} "{key}" does not exist' if key else f"{kind} does not exist")


class Conflict(StoreError):
    """The change contradicts what is stored (name taken, role in use, ...)."""


class Stale(StoreError):
    """What is there is not what the change was meant for."""


class LastAdmin(Conflict):
    """The change would leave nobody who can log in and administer central."""

    def __init__(self) -> None:
        super().__init__(
            "this is the last account that can log in as administrator; first give another user "
            "the role admin and a way to log in (a password where these are on, or a link)"
        )


class Expired(StoreError):
    """The credential was right once, but its time is over."""


class RefreshReused(StoreError):
    """A refresh token came a second time, or its login was ended before.

    In the first case its owner or a thief holds an old copy, so the login is ended before this is
    raised (RFC 9700 section 4.14.2). ``ended_before`` says why it had ended when the token came.
    """

    def __init__(self, login_id: str, user_id: str, *, ended_before: str = "") -> None:
        self.login_id = login_id
        self.user_id = user_id
        self.ended_before = ended_before
        super().__init__("the refresh token was used before; log in again")


class JoinTokenUsed(StoreError):
    """The join token was used by an earlier join."""

    def __init__(self, cluster_id: str) -> None:
        self.cluster_id = cluster_id
        super().__init__("the join token was used already; ask an admin for a new one")


class JoinTokenExpired(Expired):
    """The join token is older than its life."""

    def __init__(self, cluster_id: str) -> None:
        self.cluster_id = cluster_id
        super().__init__("the join token has expired; ask an admin for a new one")


class CertificateRevoked(StoreError):
    """The agent's certificate was revoked, or is none that was recorded for its cluster."""

    def __init__(self) -> None:
        super().__init__("the agent's certificate was revoked: join again")


class CertificateReused(StoreError):
    """A certificate was to be renewed a second time, with another key.

    One of the two who asked has a stolen copy, so everything that descends from the same join is
    revoked before this is raised.
    """

    def __init__(self) -> None:
        super().__init__(
            "the agent's certificate was renewed by somebody else before: one of the two is a "
            "stolen copy, both are kept out; join again with a new token"
        )
