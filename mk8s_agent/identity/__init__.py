"""Who the agent is to central: the join, the certificate and its renewal, and where both are kept.

Called by `agent` and by the tunnel's control session. `join` is the first contact, `renewal` makes
the next key, `store` and `secret_store` keep it in a 0600 file or a Secret. A private key never
leaves.
"""
