"""The audit goes away: files removed, disks that are full, broken or slow, and a killed central."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.attacks.attack import Attack, Check, LeftOut, must
from tests.attacks.shim import Shim
from tests.attacks.stage import SHIM, Stage, wait_until
from tests.attacks.wire import World, ask

_PATH = "/api/v1/namespaces/default/configmaps/audit"
_FAULTY = ((SHIM, "1"),)


def _request(world: World, mark: str) -> int:
    return ask(world, "dev", "GET", world.target(f"{_PATH}-{mark}").decode())[0]


def _some(stage: Stage, mark: str, count: int = 10) -> str:
    """Requests one after another; whoever reached the cluster has a row. NotHeld otherwise."""
    world, answers = stage.world(), Counter[int]()
    for number in range(count):
        answers[_request(world, f"{mark}-{number}")] += 1
    _rows_of(stage, mark)
    return ", ".join(f"{number} x {status}" for status, number in sorted(answers.items()))


def _rows_of(stage: Stage, mark: str) -> int:
    """How many requests with the mark reached the cluster, after seeing a row for each."""
    ids = {dict(it["headers"]).get("audit-id") for it in stage.reached(f"audit-{mark}")}

    def written() -> bool:
        return ids <= {row["auditID"] for row in stage.rows(f"audit-{mark}")}

    must(wait_until(written, 10), f"of {len(ids)} requests at the cluster some have no row")
    return len(ids)


def _gone(act: Callable[[Stage], None]) -> Callable[[Stage], str]:
    """The journal disappears: rows go on, in a new file, and it is said."""

    def check(stage: Stage) -> str:
        first = _some(stage, "before")
        act(stage)
        start = time.monotonic()
        again = wait_until((stage.audit / "journal.jsonl").exists, 10)
        must(again, "no new journal after 10 s")
        took = time.monotonic() - start
        time.sleep(1.2)
        after = _some(stage, "after")
        said = list(stage.rows("reopen", strangers=False))
        must(said, "no row says that the journal began anew")
        return f"before {first}; a new file after {took:.1f} s; then {after}, each with a row"

    return check


def _remove(stage: Stage) -> None:
    (stage.audit / "journal.jsonl").unlink()


def _move(stage: Stage) -> None:
    (stage.audit / "journal.jsonl").rename(stage.folder / "moved.jsonl")


def unwritable(stage: Stage) -> str:
    """The whole folder is moved away and a file lies in its place: no row, no request."""
    kept = stage.folder / "kept"
    stage.audit.rename(kept)
    stage.audit.write_text("")
    world = stage.world()
    refused = wait_until(lambda: _request(world, "nowhere") == 503, 10)
    unready = wait_until(lambda: stage.ready()[0] == 503, 5)
    before = len(stage.reached("audit-refused"))
    status = _request(world, "refused")
    reached = len(stage.reached("audit-refused")) - before
    stage.audit.unlink()
    kept.rename(stage.audit)
    healed = wait_until(lambda: _request(world, "healed") == 200, 20)
    must(refused and status == 503, f"requests got {status} without a journal")
    must(not reached, "a request reached the cluster without a row")
    must(unready, "/readyz says that all is well")
    must(healed, "it did not heal once the folder was back")
    return "503 for requests and /readyz, nothing at the cluster; 200 once the folder was back"


def _fault(kind: str, *, allowed: tuple[int, ...] = (200, 503)) -> Callable[[Stage], str]:
    """A fault of the disk: nothing reaches the cluster without a row; then it heals."""

    def check(stage: Stage) -> str:
        shim, world = _shim(stage), stage.world()
        with shim.fault(kind):
            time.sleep(2.5 if kind == "f" else 0.1)
            during = _some(stage, f"fault-{kind}")
            if kind in "wnf":
                must(
                    wait_until(lambda: stage.ready()[0] == 503, 5), "/readyz says that all is well"
                )
        healed = wait_until(lambda: _request(world, f"heal-{kind}") == 200, 20)
        must(healed, "it did not heal")
        statuses = {int(part.rpartition(" ")[2]) for part in during.split(", ")}
        must(statuses <= set(allowed), f"meanwhile {during}")
        _parsable(stage)
        return f"meanwhile {during}; each request at the cluster has a row; healed"

    return check


def _shim(stage: Stage) -> Shim:
    if stage.shim is None:
        raise LeftOut("no C compiler, so no faulty disk")
    return stage.shim


def _parsable(stage: Stage) -> None:
    import json  # noqa: PLC0415

    for file in stage.audit.glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            try:
                json.loads(line)
            except ValueError:
                must(condition=False, text=f"{file.name} has a line that is no row: {line[:80]!r}")


def slow_disk(stage: Stage) -> str:
    """Two seconds for each write: those who need rows wait, the loop does not."""
    shim, world, answers = _shim(stage), stage.world(), Counter[int]()
    threads = [
        threading.Thread(target=lambda n=n: answers.update([_request(world, f"slow-{n}")]))
        for n in range(6)
    ]
    with shim.fault("s"):
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        longest = 0.0
        for _ in range(10):
            start = time.monotonic()
            status, _, _ = ask(world, None, "GET", "/livez")
            must(status == 200, f"/livez: {status}")
            longest = max(longest, time.monotonic() - start)
            time.sleep(0.2)
        for thread in threads:
            thread.join(60)
    _rows_of(stage, "slow")
    must(longest < 1.0, f"/livez took {longest:.1f} s: the loop waits for the disk")
    told = ", ".join(f"{count} x {status}" for status, count in sorted(answers.items()))
    return f"six requests: {told}; /livez took {longest * 1000:.0f} ms at the most"


def killed(stage: Stage) -> str:
    """kill -9 while requests wait for their cluster: their rows are closed at the next start."""
    world = stage.world()

    def ask_and_wait() -> None:
        target = world.target("/api/v1/namespaces/default/configmaps/silence-9?container=killed")
        try:
            ask(world, "dev", "GET", target.decode())
        except OSError:
            pass
        except Exception as error:  # noqa: BLE001  the connection breaks in many ways
            del error

    threads = [threading.Thread(target=ask_and_wait, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    must(wait_until(lambda: len(stage.reached("container=killed")) == 5, 10), "they never arrived")
    stage.central.signal(signal.SIGKILL)
    stage.central.wait()
    ids = {row["auditID"] for row in stage.rows("container=killed")}
    stage.start_central()

    def closed() -> bool:
        rows = [row for row in stage.rows("ResponseComplete") if row["auditID"] in ids]
        return {row["auditID"] for row in rows} == ids

    must(len(ids) == 5, f"{len(ids)} of 5 requests had a row before they left")
    must(wait_until(closed, 15), "their rows were not closed after the restart")
    _parsable(stage)
    return "5 of 5 requests had a row before they left; all are closed after the restart"


def database_gone(stage: Stage) -> str:
    """The SQLite file is removed under central: nothing is written into a lost file."""
    file = stage.folder / "central" / "central.db"
    file.rename(stage.folder / "moved.db")
    start = time.monotonic()
    seen = wait_until(lambda: stage.ready()[0] == 503, 15)
    took = time.monotonic() - start
    body = {"email": "nobody@example.com", "password": "a wrong password"}
    status = ask(stage.world(), None, "POST", "/auth/login", body)[0]
    must(seen, "/readyz says that all is well without a database")
    must(status == 503, f"a login without a database: {status}")
    return f"/readyz is 503 after {took:.1f} s, a login gets {status}"


def _check(
    name: str, point: str, what: str, act: Callable[[Stage], str], *, faulty: bool = False
) -> Check:
    return Check(f"audit-{name}", point, what, act, settings=_FAULTY if faulty else (), harms=True)


ATTACKS: tuple[Attack, ...] = (
    _check("removed", "2", "rm of the journal", _gone(_remove)),
    _check("moved", "2", "mv of the journal, as logrotate does", _gone(_move)),
    _check("unwritable", "2", "the journal's folder is a file", unwritable),
    _check("eio", "2", "EIO for each write", _fault("w"), faulty=True),
    _check("enospc", "2", "a full disk", _fault("n"), faulty=True),
    _check("short-writes", "2", "half of each write", _fault("p"), faulty=True),
    _check("half-writes", "2", "half a write, and no way back", _fault("h"), faulty=True),
    _check("fsync", "2", "EIO for each fsync", _fault("f"), faulty=True),
    _check("slow-disk", "2, 16", "two seconds for each write", slow_disk, faulty=True),
    Check("audit-kill-9", "2", "kill -9 with requests under way", killed, alone=True, harms=True),
    Check(
        "database-removed",
        "16",
        "the SQLite file is moved away",
        database_gone,
        alone=True,
        harms=True,
    ),
)
