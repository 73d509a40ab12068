"""What wrong guesses cost: a delay that doubles, per account and per source address.

Used by the management API for logins and joins. Nobody is locked out by his name alone: what
strangers do to an account delays others by a few seconds at most, while the pair of account
and source, and the source itself, wait up to minutes. An attempt is counted when it is admitted,
not when it failed, so a thousand sent at once do not all get in; a success takes its count back.
Memory is bounded, the clock injected (monotonic seconds).
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
    """

    def __init__(self, seconds: float) -> None:
        self.retry_after = max(1, math.ceil(seconds))
        super().__init__(f"too many attempts: try again in {self.retry_after} s")


@dataclasses.dataclass(frozen=True, slots=True)
class DelayRule:
    """How fast a delay grows."""

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


PER_SOURCE = DelayRule(free=30, longest=300.0)
"""An office behind one address may mistype thirty times before it waits."""

PER_PAIR = DelayRule(free=5, longest=300.0)
"""One person mistyping one password."""

PER_ACCOUNT = DelayRule(free=10, longest=5.0)
"""Guesses at one account from everywhere: slowed, never locked."""

PER_JOIN_SOURCE = DelayRule(free=10, longest=300.0)
"""Join tokens have 256 bits: this saves work, it does not guard them."""


class Throttle:
    """Attempts of many keys under one rule."""

    def __init__(self, rule: DelayRule, clock: Callable[[], float]) -> None:
        self._rule = rule
        self._clock = clock
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
        attempts, _ = self._recent(key)
        self._attempts[key] = (attempts + 1, self._clock())
        self._attempts.move_to_end(key)
        while len(self._attempts) > self._rule.capacity:
            self._attempts.popitem(last=False)

    def refund(self, key: str) -> None:
        """Take one attempt back: it succeeded."""
        attempts, last = self._recent(key)
        if attempts > 1:
            self._attempts[key] = (attempts - 1, last)
        else:
            self._attempts.pop(key, None)

    def forget(self, key: str) -> None:
        """Take all attempts of the key back."""
        self._attempts.pop(key, None)

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

    def __init__(self, clock: Callable[[], float]) -> None:
        self._source = Throttle(PER_SOURCE, clock)
        self._pair = Throttle(PER_PAIR, clock)
        self._account = Throttle(PER_ACCOUNT, clock)

    def admit(self, account: str, source: str) -> None:
        """Count an attempt before its password is looked at.

        Args:
            account: The email address as given, whether there is such a user or not.
            source: The client's address.

        Raises:
            Throttled: Not before some seconds; the attempt is not counted.
        """
        account, source, pair = _keys(account, source)
        seconds = max(self._source.wait(source), self._pair.wait(pair), self._account.wait(account))
        if seconds > 0:
            raise Throttled(seconds)
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


def _keys(account: str, source: str) -> tuple[str, str, str]:
    # Hashed, so that a key's size does not depend on what a stranger sent.
    name = hashlib.sha256(account.lower().encode("utf-8", "surrogatepass")).hexdigest()
    where = source_key(source)
    return name, where, f"{name} {where}"
