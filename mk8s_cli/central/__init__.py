"""Central as the CLI sees it: its endpoints (`api`), the way there, and the trust in it.

Called by `login` and `commands`. It writes to no terminal and stores nothing but what `trust` pins.
"""
