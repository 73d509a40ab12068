"""HTTP/2 (RFC 9113) in one place: what every HTTP/2 leg of a request is made of.

A connection is composed of parts that know neither it nor each other, nor any socket::

    frame_reader   bytes in, frames out: preface, lengths, padding, CONTINUATION
    stream_table   which streams are open, idle, closed, or reset here a moment ago
    flow_control   the windows that this end gives: DATA taken, credit given back
    health         budgets against floods, sign of life, round trip
    outbound       frames out: the peer's windows, waiting streams, one write per tick
    losses         streams that end with their connection, or for want of memory
    trailers       what may stand behind a body

``connection`` puts them together and says how streams and connections end; ``server`` and
``client`` are its two roles. Central is a server towards kubectl and a client towards agents; an
agent is a server towards central, although it dialled, and a client towards its API server. Their
connections derive from a role, and nothing derives from those.
"""
