"""The agent's own credential: a ServiceAccount's token or what a kubeconfig names.

Called by `mk8s_agent.apiserver` and by `main`. `sources` reads and renews, `kubeconfig` understands
the file as kubectl does, `exec_plugin` runs a credential plugin. It hands out no other identity
when its own is gone: a missing credential is a refusal.
"""
