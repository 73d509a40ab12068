"""Central as the CLI sees it: its endpoints (`api`), the way there, and the trust in it.

Called by `login` and `commands`; it calls only `terminal`. It writes to no terminal itself and
stores nothing but what `trust` pins.
"""
