"""Central's ends of the tunnels that agents hold open.

`session` is one tunnel, `control` the conversation on its control stream, `registry` all of them
by cluster. A cluster's identity comes from the verified certificate of the tunnel and from nothing
that was said inside it.
"""
