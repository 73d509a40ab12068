"""Kubeconfig files: our entries in them, and nobody else's touched.

Called by `commands`. `entries` and `document` are pure; `files` takes kubectl's locks and writes;
`contexts` joins both with what central lists. No secret is ever written.
"""
