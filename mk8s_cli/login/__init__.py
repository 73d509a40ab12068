"""A login on this machine: which central, its refresh token, and access tokens made from it.

Called by `commands`; `access_tokens` is what runs before every kubectl command. Secrets go to the
keyring or a 0600 file (`credentials`, `token_cache`) and never to a kubeconfig or a terminal.
"""
