"""The tunnel protocol in one page, and the code that both of its ends share.

Central may import this package and nothing else of the agent; this file imports nothing, so that
taking one module does not take all.

The connection
    The agent dials central's one port with the server name ``tunnel.mk8s.internal`` and the ALPN
    protocol ``mk8s-tunnel/1``; TLS 1.2 or newer, no session tickets. Both sides show a certificate
    (``tls.py``, ``pki.py``). The agent trusts exactly the authority that it got at the join;
    central trusts its agent authority, and takes the cluster from the certificate's one URI name,
    ``mk8s://cluster/<id>``, and from nothing else.

HTTP/2 with the roles turned round
    Once dialled, the agent is the HTTP/2 *server* and central the client (RFC 9113): central opens
    a stream for each request of a user. What HTTP/2 has already is not invented again: flow
    control by stream and connection, PING for liveness, RST_STREAM for a client that went away,
    GOAWAY for leaving. Both sides advertise a header table of size 0, so each header block stands
    alone and can be relayed as it is, without decoding (``http2``, ``hpack_codec.py``).

Stream 1: control
    The first stream that central opens has the path ``/mk8s.control`` (``headers.CONTROL_PATH``).
    Its DATA in both directions is a sequence of messages, a length and JSON each: register,
    heartbeats with clock and load, renewal of the certificate by a fresh key, drain
    (``control.py``, ``control_channel.py``). When it ends, the tunnel ends.

All other streams: one request each
    The head holds method, path as the client sent it, the headers that are forwarded, and lines
    that begin with ``mk8s-`` (``headers.py``), which a client cannot send: on whose behalf
    (``mk8s-identity``, JSON), the audit id, the protocol of an upgrade, the length of the body.
    Identity and client's headers come last: they repeat, and an agent knows them by their bytes.
    Bodies are DATA frames, passed on as they come. The answer's header block is the API server's
    own, byte for byte. An error of the agent itself is a head with ``mk8s-error``.

    An upgrade (exec, attach, port-forward) is an ordinary stream whose head carries
    ``mk8s-upgrade``; after the API server answered 101 with the same protocol, DATA is the raw
    bytes of the upgraded connection, and before that nothing is.

When it breaks
    A frame or message that cannot be read ends this tunnel and no other. A stream that ended
    before its answer began is answered 502 or 503; one that ended later is reset, never ended as
    if it were complete. Central never sends a request that may have been delivered a second time.
"""
