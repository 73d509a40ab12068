"""The agent of mk8s: what it can do in your cluster, and what it cannot.

This folder is all that runs in your cluster, and it imports nothing of mk8s from outside it. It is
meant to be read in an afternoon. Start here, then ``apiserver/impersonation.py``, then
``apiserver/pool.py``.

What it does
    The agent dials central; nothing listens for central on your side, and no port of your cluster
    has to be reachable. Over that connection, the tunnel, central opens one HTTP/2 stream for each
    request of a user. The agent writes the same request to your kube-apiserver, as that user, and
    carries the answer back. That is all: it keeps no copy, reads no body and decides no policy.

    ::

        central ──one HTTP/2 stream per request──▶ tunnel/ ─▶ impersonation ─▶ apiserver/
                                                                                        │
                                             kube-apiserver ◀──ServiceAccount token, Impersonate-*

What it may do
    Its ServiceAccount may ``impersonate`` and keep its own identity in one Secret; see
    ``deploy/kubernetes/agent.yaml``. It may read no pod and no other Secret. But whoever may
    impersonate may act as anyone who is impersonated: so central, which names the user, is trusted
    with whatever you allow to be impersonated. The manifest shows how to narrow that to a list of
    groups and users, and your own RBAC still judges each request by the user that it names.

What it refuses, whatever central says
    * A request without exactly one user, without the marker group ``mk8s:users``, or with any name
      that begins with ``system:`` but ``system:authenticated`` (``apiserver/impersonation.py``). So
      central cannot become ``system:masters`` or one of your ServiceAccounts. Identity and headers
      that passed are known again by their bytes, so most requests are not checked field by field
      (``apiserver/request_block.py``); what is not byte for byte the same is.
    * A request when it has no credential of its own: it would run as ``system:anonymous``.
      A missing token, and a 401 from the API server, stop the service (``credentials/sources.py``).
    * Following redirects, dialling any address but the API server's (or the proxy's that you name),
      and passing raw bytes before the API server has agreed to the same upgrade.
    * A central that it cannot verify. The first contact is checked against the pin of central's CA
      before the join token is sent (``identity/join.py``); afterwards only that CA counts. There is
      no unverified way, also not for a while.

What is secret here, and where it is
    ======================  ================================================  ===================
    join token              AGENT_TOKEN; works once, for 15 minutes           never stored
    the tunnel's key        made here, never sent; new with each certificate  Secret or 0600 file
    its certificate         lives for 24 hours, renewed after 16              the same
    ServiceAccount token    read from its file again when it changes          in memory
    users' tokens of mk8s   never reach the agent; central keeps them
    ======================  ================================================  ===================

When something breaks
    =================================  ==========================================================
    central is down                    dialled again within a second, with jitter; users get 503
    central leaves (drain)             a new tunnel first, then the old one ends with its streams
    the API server is down             tunnels stay; each request is answered 502
    the agent's token is gone          requests are answered 502, ``/readyz`` fails
    the certificate is about to end    a new one by a fresh key over the tunnel; tried until then
    the certificate has ended          the agent says so and needs a new join token
    a message it cannot read           that tunnel is closed, the others go on
    the clock is wrong                 the agent says so; certificates would not be valid
    =================================  ==========================================================
"""
