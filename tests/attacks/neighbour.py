"""The other user: small requests on a connection of its own, and a new connection each second.

Run by `stage` as a process; prints a line of JSON for each answer: when (monotonic seconds, of the
whole machine), how long it took, "" or what went wrong, and whether the connection was new.
"""

import json
import sys
import time
from pathlib import Path

from tests.attacks.wire import SMALL, Attacker, Gone, Http2, World

PAUSE = 0.01
_PATIENCE = 10.0


class Neighbour:
    """Somebody with read access, who minds their own business."""

    def __init__(self, world: World) -> None:
        self._attacker = Attacker(world, 1e9)
        self._fields = self._attacker.head(SMALL, "neighbour")
        self._kept: Http2 | None = None

    def _connect(self) -> Http2:
        return self._attacker.http2(source="127.0.0.1")

    def kept(self) -> str:
        """One request on the connection that stays; "" or what went wrong."""
        try:
            if self._kept is None:
                self._kept = self._connect()
            return self._ask(self._kept)
        except OSError as error:
            self._kept = None
            return self._name(error)

    def fresh(self) -> str:
        """One request on a connection of its own."""
        try:
            connection = self._connect()
        except OSError as error:
            return self._name(error)
        try:
            return self._ask(connection)
        except OSError as error:
            return self._name(error)
        finally:
            connection.close()

    def _ask(self, connection: Http2) -> str:
        status = connection.wait(connection.request(self._fields), _PATIENCE)
        connection.statuses.clear()
        connection.ended.clear()
        connection.bodies.clear()
        return "" if status == "200" else status

    @staticmethod
    def _name(error: OSError) -> str:
        return str(error) if isinstance(error, Gone) else type(error).__name__


def main() -> None:
    """Asks for ever."""
    neighbour = Neighbour(World.load(Path(sys.argv[1])))
    next_fresh = 0.0
    while True:
        is_fresh = time.monotonic() >= next_fresh
        start = time.monotonic()
        error = neighbour.fresh() if is_fresh else neighbour.kept()
        end = time.monotonic()
        print(json.dumps([round(end, 4), round(end - start, 6), error, is_fresh]), flush=True)
        if is_fresh:
            next_fresh = end + 1.0
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
