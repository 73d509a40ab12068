"""The leg on which a list or watch is shortened. Made by `mk8s_proxy.answers.choose`."""

from typing import Final

from mk8s_agent.wire.stream import Fields
from mk8s_proxy.answers.filtering.continue_token import TokenExpired, TokenSeal
from mk8s_proxy.answers.filtering.json_values import Unfilterable
from mk8s_proxy.answers.filtering.list_filter import ListFilter
from mk8s_proxy.answers.filtering.objects import ObjectJudge
from mk8s_proxy.answers.filtering.request import JSON, filtered_target, judgeable_headers
from mk8s_proxy.answers.filtering.watch_filter import WatchFilter
from mk8s_proxy.answers.interceptor import InterceptionRefused, Interceptor, Refuse
from mk8s_proxy.authz.attributes import Visibility
from mk8s_proxy.kube.status import StatusError, bad_gateway, forbidden
from mk8s_proxy.kube.watch_events import error_event
from mk8s_proxy.listener.exchange import Exchange

_UNTRUE: Final = frozenset(
    {
        b"accept-ranges", b"content-digest", b"content-length", b"content-md5", b"digest", b"etag",
        b"last-modified", b"repr-digest",
    }
)  # fmt: skip
"""What a shortened body makes untrue."""

LIST_ANEW: Final = StatusError(410, "Expired", "what you may see has changed: list again")
"""The last event of a watch when its user's visibility changes: client-go answers it with a new
list, so objects that have come into view, or have left it, become known."""

_UNDIVIDED: Final = (
    "your role covers only a part of these objects, and a WebSocket cannot be limited to it: "
    "watch over plain HTTP"
)
_EXPIRED: Final = (
    "The provided continue parameter is too old or was not given to you for this list. "
    "Start a new list without the continue parameter."
)


def closing_event(exchange: Exchange) -> bytes:
    """What an open watch says last when its user's visibility changes, in the watch's own form.

    Empty if that is unknown, or if it is no watch.
    """
    info = exchange.info
    if info is None or info.verb != "watch":
        return b""
    return error_event(LIST_ANEW, exchange.answer_form)


class FilterInterceptor(Interceptor):
    """Lets through what `visibility` allows; changes the exchange's request so that it can.

    Raises:
        StatusError: the request cannot be answered in part.
    """

    def __init__(
        self, exchange: Exchange, refuse: Refuse, *, visibility: Visibility, seal: TokenSeal
    ) -> None:
        super().__init__(exchange, refuse)
        info = exchange.info
        assert info is not None
        self._watch = info.verb == "watch"
        if exchange.head.upgrade or info.verb not in ("list", "watch"):
            raise forbidden(_UNDIVIDED)
        self._about = _about(exchange)
        self._seal = seal
        strip_rows = self._change_request()
        self._judge = ObjectJudge(visibility.allows, strip_rows=strip_rows)
        self._filter: ListFilter | WatchFilter | None = None

    def _change_request(self) -> bool:
        """Asks for what can be judged; returns whether rows must lose the objects asked for."""
        exchange = self.exchange
        head = exchange.head
        sent = head.target[len(exchange.prefix) :]
        try:
            target = filtered_target(sent, self._seal, self._about)
        except TokenExpired as error:
            raise StatusError(410, "Expired", _EXPIRED) from error
        if target.raw != sent:
            exchange.forwarded_target = target.raw
        exchange.head = head._replace(forwarded=judgeable_headers(head.forwarded))
        return target.strip_rows

    def head(self, fields: Fields) -> Fields:
        """Errors pass as they are; of all else, only plain JSON can be judged."""
        status = fields[0][1]
        if not status.startswith(b"2"):
            return fields
        if status != b"200" or not _is_plain_json(fields):
            raise InterceptionRefused(
                bad_gateway("the cluster did not answer in JSON: nothing is shown")
            )
        if self._watch:
            self._filter = WatchFilter(self._judge)
        else:
            self._filter = ListFilter(self._judge, self._sealed)
        return [field for field in fields if field[0] not in _UNTRUE]

    def body(self, data: bytes, end: bool) -> bytes:
        """What of the answer may be seen."""
        if self._filter is None:
            return data
        if self.exchange.head.method == b"HEAD":
            return b""
        try:
            return self._filter.feed(data, end)
        except Unfilterable as error:
            message = f"the cluster's answer cannot be reduced to what you may see: {error}"
            raise InterceptionRefused(bad_gateway(message)) from error

    def _sealed(self, token: str) -> str:
        return self._seal.seal(token, self._about)


def _about(exchange: Exchange) -> bytes:
    """What a page token is good for: one user's list of one collection."""
    identity, info = exchange.identity, exchange.info
    assert identity is not None
    assert info is not None
    return "\0".join((exchange.cluster, identity.user, info.path)).encode()


def _is_plain_json(fields: Fields) -> bool:
    types = [value for name, value in fields if name == b"content-type"]
    if len(types) != 1:
        return False
    media_type, *parameters = (part.strip().lower() for part in types[0].split(b";"))
    charsets = [one for one in parameters if one.startswith(b"charset=")]
    if media_type != JSON or any(one != b"charset=utf-8" for one in charsets):
        return False
    codings = [value.strip().lower() for name, value in fields if name == b"content-encoding"]
    return all(coding == b"identity" for coding in codings)
