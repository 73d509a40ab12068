"""The tables of kubectl's commands and flags, made from stock kubectls.

`read` asks one kubectl by its help and, where help does not say it, by its parser. `merge` puts
several versions into one table, which is `mk8s_proxy/kubectl/flags.json`. Renew it with the oldest
and the newest kubectl that central may have, and whatever is at hand between them:

    python -m tests.kubectl_flags kubectl.1.27 kubectl.1.33 kubectl.1.37

A version that brings a flag nobody has decided on fails `tests/proxy/test_kubectl_rules.py`.
"""
