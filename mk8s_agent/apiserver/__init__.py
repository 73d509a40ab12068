"""The way to the kube-apiserver: requests written anew, as the user that central names.

Called by `mk8s_agent.tunnel`. `request` and `request_block` judge a stream's head, `impersonation`
the identity in it; `pool` keeps the connections that `dial` opens. It dials one address only,
follows no redirect and sends nothing without the agent's own credential.
"""
