"""A small Kubernetes API held in memory: `mk8s demo` without a cluster, and the tests' API server.

It is a guest, not the house: good enough for stock kubectl, clearly labelled (version
`v1.33.0-mk8s-demo`, annotation `mk8s.io/demo`), and without any access policy of its own: whoever
has its one bearer token may do everything. A request passes, top to bottom:

- `server`: TLS with a throwaway certificate, start and stop.
- `app`: bearer token, impersonation headers, path to handler, errors to `Status`.
- `objects`: get, list, watch, create, update, patch, delete of whatever `catalogue` knows, over
  the versioned `store`; `patches`, `apply`, `selectors`, `tables` and `protobuf` are its tools.
- `documents`: discovery and OpenAPI; `reviews`: who am I, may I; `pods`: logs, exec, attach.
- `controllers`: what a controller manager and a kubelet would do, in a few lines.

Nothing else of mk8s imports it: `mk8s demo` starts `python -m mk8s_cli.demo_api`, and tests use
`mk8s_cli.demo_api.server.running_demo_api`.
"""
