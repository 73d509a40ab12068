"""The listener that a browser comes back to after a login (RFC 8252, 7.3). One login, then it ends.

Called by `single_sign_on`. Whatever runs on this machine, and every page that its browsers show,
can reach the port. So only `GET /callback` at the very address counts, only with the random `state`
of this login, and only once; all else is answered and changes nothing. With the right state the
answer is final: `iss` must then name our central (RFC 9207), or its code goes nowhere.
"""

import hmac
import http.server
import threading
import time
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from mk8s_cli.terminal.errors import CliError

PATH = "/callback"
WAIT_SECONDS = 300.0
SILENT_SECONDS = 10.0
"""How long a connection may say nothing; browsers open some in advance."""
MOST_CONNECTIONS = 16
MOST_FIELDS = 16
LONGEST_VALUE = 4096
_LOOK_SECONDS = 0.2
"""So often the waiting looks up, since on Windows only then Ctrl-C is seen."""
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
}
_PAGE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>mk8s</title>'
    "<h1>mk8s</h1><p>{}</p></html>"
)
_TAKEN = "Go on at your terminal. You may close this window."
_FAILED = "The login failed: your terminal says why. You may close this window."
_DONE = "This login is over. You may close this window."
_FOREIGN = "This answer belongs to no login that is waiting here. You may close this window."
_NOTHING = "There is nothing here."


class Callback(NamedTuple):
    """What the browser brought: a code, or an error and what it means."""

    code: str
    error: str
    description: str
    issuer: str
    """Who says so, "" if nobody does."""


class Loopback:
    """Listens on a free port of 127.0.0.1 from its making to its `close`."""

    def __init__(self, state: str) -> None:
        """Wait for the answer that knows `state`."""
        self._arrived = threading.Event()
        self._answer: Callback | None = None
        self._guard = threading.Lock()
        self._state = state
        try:
            self._server = _Server(self)
        except OSError as error:
            raise CliError(
                f"no port of 127.0.0.1 can be listened on ({error.strerror}): log in with --device"
            ) from error
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.redirect_uri = f"http://{self.host}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, seconds: float = WAIT_SECONDS) -> Callback:
        """Return the answer; raise `CliError` if none comes in time."""
        ends = time.monotonic() + seconds
        while not self._arrived.wait(_LOOK_SECONDS):
            if time.monotonic() >= ends:
                raise CliError(
                    f"nobody came back from the page within {seconds / 60:.0f} minutes: "
                    "log in again, or with --device"
                )
        assert self._answer is not None
        return self._answer

    def take(self, query: str) -> tuple[int, str]:
        """Take what a request to `PATH` brought; return the status and the text of its page."""
        fields = _fields(query)
        given = fields.get("state", "").encode()
        if not hmac.compare_digest(given, self._state.encode()):
            return 400, _FOREIGN
        with self._guard:
            if self._answer is not None:
                return 410, _DONE
            self._answer = Callback(
                code=fields.get("code", ""),
                error=fields.get("error", ""),
                description=fields.get("error_description", ""),
                issuer=fields.get("iss", ""),
            )
        return (200, _TAKEN) if self._answer.code else (400, _FAILED)

    def answered(self) -> None:
        """Tell who waits, once the browser has its page."""
        if self._answer is not None:
            self._arrived.set()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # On Windows it would let another program take the port over.
    allow_reuse_address = False
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, login: Loopback) -> None:
        self.login = login
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(("127.0.0.1", 0), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self._places.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A stranger that goes away, or talks nonsense, is nothing to tell."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENT_SECONDS
    server_version, sys_version = "mk8s", ""

    def do_GET(self) -> None:
        login = self.server.login
        target = urlsplit(self.path)
        if self.headers.get_all("Host") != [login.host]:
            # A page of a name that now means 127.0.0.1 (DNS rebinding).
            self._page(421, _NOTHING)
        elif target.path != PATH or target.scheme or target.netloc:
            self._page(404, _NOTHING)
        else:
            try:
                self._page(*login.take(target.query))
            finally:
                login.answered()

    def _page(self, status: int, told: str) -> None:
        body = _PAGE.format(told).encode()
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: what comes here holds codes."""


def _fields(query: str) -> dict[str, str]:
    """Return the parameters; {} where one is there twice, or there are too many or too long."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        return {}
    fields = dict(pairs)
    is_plain = len(fields) == len(pairs) and all(len(it) <= LONGEST_VALUE for it in fields.values())
    return fields if is_plain else {}
