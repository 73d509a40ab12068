"""The `mk8s` command line: one login, then plain kubectl on every cluster one may use.

This package is a client like any other. It speaks HTTPS to central's management API and shares no
code with `mk8s_proxy` or `mk8s_agent`, so that the base install stays light.

How a `kubectl get pods` gets its token::

    kubectl -> kubeconfig user entry (exec) -> python -E -P -m mk8s_cli get-token ...
            -> 0600 cache hit: print it                     (no third-party import, about 30 ms)
            -> miss: lock, refresh at central, store the rotated refresh token, cache, print

What is trusted, and what is not:

- The refresh token lives in the OS keyring, or in a 0600 file where there is none. The kubeconfig
  holds no secret: it names the plugin by absolute path and the authority pinned at login.
- Central's own certificate authority is taken over only when its pin was given (`--ca-pin`), its
  file was given (`--ca-file`) or a person compared the pin shown. There is no "insecure" switch.
- Whatever comes from the network is text of a stranger: names and addresses must match a pattern
  before they reach a file (`terminal/validation.py`), and control characters are escaped before
  they reach a terminal (`terminal/screen.py`).

Where to read on: `main.py` (entry, errors to one line), `command_table.py` (lazy commands),
`login/access_tokens.py` (cache, lock, refresh), `kubeconfig/entries.py` (pure) and `files.py`
(locks and files), `central/transport.py` (retries, clock), `central/connection.py` (the deadline)
and `central/api.py` (the endpoints).
"""
