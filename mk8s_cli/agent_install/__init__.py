"""Putting the agent into a cluster with the caller's own kubeconfig, and taking it away again.

Called by the commands `admin clusters add --install` and `remove --uninstall`. What is installed
is the Helm chart's rendering, `agent.yaml` beside this file. `cluster` is the only module that
imports the official client (extra `install`), and only when a cluster is really spoken to;
`diagnosis` reads what the cluster says and does no I/O.
"""
