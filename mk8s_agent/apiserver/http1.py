"""An HTTP/1.1 connection to the API server. For `pool`."""

from mk8s_agent.apiserver import resending
from mk8s_agent.wire.http1_upstream import Http1Upstream


class ApiServerHttp1(Http1Upstream):
    """Tells a request that met the end of an idle connection from one that broke off."""

    used_before = False
    """It has carried a whole exchange already."""

    def _offer(self) -> None:
        self.used_before = True
        super()._offer()

    def connection_lost(self) -> None:
        """The socket is gone: a request of which nothing has been answered may go again."""
        if self.stream is not None and self.used_before and not (self.heard or self.closed):
            resending.note_lost_connection(self.stream)
        super().connection_lost()
