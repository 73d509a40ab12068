"""What wrong guesses cost: a delay that doubles, per account and per source address.

Used by the management API for logins (through `login_queue`) and joins. Nobody is locked out by his
name alone: what strangers do to an account delays those who never logged in to it from where they
are, by a few seconds at most, and nobody else, while the pair of account and source, and the source
itself, wait up to minutes. An attempt is counted when it is admitted,
not when it failed, so a thousand sent at once do not all get in; a success takes its count back.
Memory is bounded, the clock injected (monotonic seconds). Several workers of central count as one:
what one of them counts it tells, and the others note it.
"""

import dataclasses
import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable


class Throttled(Exception):
    """Too many failures: answer 429.

    Attributes:
        retry_after: Whole seconds until the next attempt is looked at, 1 at least.
        account_only: It is for what others did to the account; a known source would be admitted.
    """

    def __init__(self, seconds: float, *, account_only: bool = False) -> None:
        self.account_only = account_only
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"too many attempts: try again in {self.retry_after} s")


@dataclasses.dataclass(frozen=True, slots=True)
class DelayRule:
    """How fast a delay grows."""

    name: str
    """What workers call it when they tell each other."""
    free: int
    """Attempts before there is any delay."""
    longest: float
    """Upper bound of the delay, seconds."""
    first: float = 1.0
    """Delay after the first attempt beyond the free ones, seconds; then it doubles."""
    forget: float = 900.0
    """Seconds without an attempt after which all are forgotten."""
    capacity: int = 20_000
    """Keys remembered; the one longest untouched goes first."""


PER_SOURCE = DelayRule("source", free=30, longest=300.0)
"""An office behind one address may mistype thirty times before it waits."""

PER_PAIR = DelayRule("pair", free=5, longest=300.0)
"""One person mistyping one password."""

PER_ACCOUNT = DelayRule("account", free=10, longest=5.0)
"""Guesses at one account from everywhere: slowed, never locked."""

PER_JOIN_SOURCE = DelayRule("join", free=10, longest=300.0)
"""Join tokens have 256 bits: this saves work, it does not guard them."""

PER_EXCHANGE_SOURCE = DelayRule("exchange", free=30, longest=300.0)
"""Tokens of jobs cannot be guessed: this saves signatures, and questions to issuers."""


Tell = Callable[[str, str, str], object]
"""Takes a rule's name, "count", "refund" or "forget", and a key."""


def _nobody(_rule: str, _event: str, _key: str) -> None:
    """There are no other workers."""


class Throttle:
    """Attempts of many keys under one rule.

    Args:
        rule: how fast a delay grows.
        clock: monotonic seconds.
        tell: told each change, for `note` of the other workers.
    """

    def __init__(self, rule: DelayRule, clock: Callable[[], float], tell: Tell = _nobody) -> None:
        self.name = rule.name
        self._rule = rule
        self._clock = clock
        self._tell = tell
        self._attempts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Return the seconds until the key's next attempt is admitted, 0 for now."""
        count, last = self._recent(key)
        beyond = count - self._rule.free
        if beyond < 0:
            return 0.0
        # The exponent is bounded so that a large count cannot overflow.
        delay = min(self._rule.longest, self._rule.first * 2.0 ** min(beyond, 64))
        return max(0.0, last + delay - self._clock())

    def count(self, key: str) -> None:
        """Count an attempt."""
        self.note("count", key)
        self._tell(self.name, "count", key)

    def refund(self, key: str) -> None:
        """Take one attempt back: it succeeded."""
        self.note("refund", key)
        self._tell(self.name, "refund", key)

    def forget(self, key: str) -> None:
        """Take all attempts of the key back."""
        self.note("forget", key)
        self._tell(self.name, "forget", key)

    def note(self, event: str, key: str) -> None:
        """Take a change, of this worker or one that another told."""
        attempts, last = self._recent(key)
        if event == "count":
            self._keep(key, attempts + 1)
        elif event == "refund" and attempts > 1:
            self._attempts[key] = (attempts - 1, last)
        else:
            self._attempts.pop(key, None)

    def _keep(self, key: str, attempts: int) -> None:
        self._attempts[key] = (attempts, self._clock())
        self._attempts.move_to_end(key)
        while len(self._attempts) > self._rule.capacity:
            self._attempts.popitem(last=False)

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._attempts)

    def _recent(self, key: str) -> tuple[int, float]:
        count, last = self._attempts.get(key, (0, 0.0))
        if count and self._clock() - last >= self._rule.forget:
            return 0, 0.0
        return count, last


class LoginThrottle:
    """The three throttles of a login taken together."""

    def __init__(self, clock: Callable[[], float], tell: Tell = _nobody) -> None:
        self._source = Throttle(PER_SOURCE, clock, tell)
        self._pair = Throttle(PER_PAIR, clock, tell)
        self._account = Throttle(PER_ACCOUNT, clock, tell)

    @property
    def throttles(self) -> tuple[Throttle, ...]:
        """The three."""
        return self._source, self._pair, self._account

    def admit(self, account: str, source: str, *, known: bool = False) -> None:
        """Count an attempt before its password is looked at.

        Args:
            account: The email address as given, whether there is such a user or not.
            source: The client's address.
            known: The account has logged in from there before: what strangers do elsewhere
                does not delay it.

        Raises:
            Throttled: Not before some seconds; the attempt is not counted.
        """
        account, source, pair = _keys(account, source)
        seconds = max(self._source.wait(source), self._pair.wait(pair))
        if seconds > 0:
            raise Throttled(seconds)
        if not known and (seconds := self._account.wait(account)) > 0:
            raise Throttled(seconds, account_only=True)
        self._source.count(source)
        self._pair.count(pair)
        self._account.count(account)

    def withdrawn(self, account: str, source: str) -> None:
        """Take an admitted attempt back: its password was not looked at after all."""
        account, source, pair = _keys(account, source)
        self._source.refund(source)
        self._pair.refund(pair)
        self._account.refund(account)

    def succeeded(self, account: str, source: str) -> None:
        """Forgive the account. Of the source, forgive this attempt only.

        Otherwise an attacker with one account of his own could clear his address with it.
        """
        account, source, pair = _keys(account, source)
        self._source.refund(source)
        self._pair.forget(pair)
        self._account.forget(account)


def source_key(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or the /64 that one IPv6 host owns."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), 64), strict=False).network_address)


def account_key(account: str) -> str:
    """Return what counts as one account; hashed, so that its size is not the stranger's choice."""
    return hashlib.sha256(account.lower().encode("utf-8", "surrogatepass")).hexdigest()


def _keys(account: str, source: str) -> tuple[str, str, str]:
    name, where = account_key(account), source_key(source)
    return name, where, f"{name} {where}"
