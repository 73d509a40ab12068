"""Client connections: what speaks HTTP with kubectl, one module for each version.

Both hand a checked request head to the corridor as an `Exchange` and relay what comes back; only
they know which version the client speaks.
"""
