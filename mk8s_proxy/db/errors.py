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


class LastAdmin(Conflict):
    """The change would leave nobody who can administer central."""

    def __init__(self) -> None:
        super().__init__("this is the last enabled admin; give another user the role admin first")


class Expired(StoreError):
    """The credential was right once, but its time is over."""


class RefreshReused(StoreError):
    """A refresh token came a second time, or its family is revoked.

    Either its owner or a thief holds an old copy, so the whole family is revoked before this is
    raised (RFC 9700 section 4.14.2).
    """

    def __init__(self, family_id: str, user_id: str) -> None:
        self.family_id = family_id
        self.user_id = user_id
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
