"""mk8s-central: one way into many Kubernetes clusters.

Start reading here. A request of kubectl walks along the handler chain and passes each door once::

    listener -> chain -> tunnel ==(mTLS, HTTP/2)==> agent -> kube-apiserver
    TLS, SNI, ALPN,     target, RequestInfo, authenticate,
    HTTP/2 or HTTP/1.1  authorize, journal

1. ``listener.server`` accepts TLS. The server name ``tunnel.mk8s.internal`` selects the context
   that demands an agent's certificate, every other name the public one. ALPN selects the protocol;
   none means HTTP/1.1, since kubectl's upgrade connections offer none.
2. ``listener.http2`` and ``listener.http1`` read a head (``request_head``, ``http1_head``) and hand
   the chain an ``exchange.Exchange``.
3. ``chain.handler_chain.HandlerChain.admit`` walks it: ``chain.addresses`` (which cluster),
   ``kube.request_target`` and ``kube.request_info`` (what is asked, in Kubernetes's words, from the
   raw bytes and parsed once), ``identity`` (who), ``authz`` (may they, and by which rule). It is
   one synchronous function: no task, future, lock or database access for a request. A head that was
   admitted before, byte for byte, needs not be read and asked again (``listener.recurring``) while
   policy, credential and time would give the same answer.
4. What was admitted in a loop tick is written to the ``audit`` journal with one call, and only then
   do the request heads go to their tunnels (``HandlerChain.commit``). A request whose row could not
   be written gets 503 and reaches no cluster.
5. ``tunnel.session`` is one HTTP/2 connection that an agent dialled and on which central opens the
   streams. Bodies pass frame by frame, never as a whole; each hop gives window back only for
   bytes that it has handed on, so a slow reader stalls itself and nobody else.
6. Answers are decoded, checked and composed anew (``tunnel.response_head``) before they touch a
   client's connection. An upgrade is spliced only after the API server's 101 with the protocol that
   was asked for.
7. Streams that stay open are looked at again from time to time and when the policy or a login
   changes; they end with their login, not with their token (``chain.long_running``).

What a person may do only in part is not refused: lists and watches are shortened while they pass
(``answers.filtering``), and a deletecollection becomes a list and deletions by name, which central
sends through this same chain (``answers.filtering.collection_deletion``).

Beside the chain stands the management API (``api``), an aiohttp application on a private
Unix socket: one more upstream of the same listener (``chain.api_upstream``).

Central may be several processes on one port (``process.supervisor``). Each has tunnels, a policy
and a journal of its own; an agent dials until it reaches all of them. Whatever must be right in
every process is in the database (refresh and join tokens, ended logins, users, roles, clusters,
keys, revoked certificates), which each looks at once a second, and the workers of one machine tell
each other sooner (``db.announcements``: also password guesses, which only they count as one). What
only adds up is each one's own: limits, the tunnels that ``GET /clusters`` counts.

Trust boundaries. A client is trusted with nothing but its signed token; what two parsers could read
differently is refused. A cluster and its agent are not trusted with a client's connection, nor
with another cluster: an agent is whoever its certificate's URI names, whatever it says. The
agent in turn trusts central to say who asks, and checks even that: it never impersonates
``system:*`` and forwards no request without an identity. The bearer token of a person ends here.

What fails, and how:

=============================  ======================================================
a door raises anything         the request is refused; an exception is never a yes
the journal cannot be written  503, nothing is sent
the policy is too old          503 (the database could not be read for a lease)
no agent is connected          503 with Retry-After; never another cluster
a worker dies                  its connections end; another one takes its place
an endless task ends           the process drains and ends, /readyz names the task meanwhile
a turn of a periodic one fails it is tried again soon; /readyz names it once it is overdue
one connection's code raises   that connection ends, nobody else's (``wire.bulkhead``)
the agent or cluster is lost   before the answer 502, within it the stream is reset:
                               what was cut short never looks complete
a peer breaks HTTP/2           its connection ends, nobody else's
strangers fill the listener    the oldest of them goes; agents have places of their own
a reader stops reading         its own stream waits; after a minute its connection ends
central is stopped             GOAWAY; open requests get ten seconds
=============================  ======================================================
"""
