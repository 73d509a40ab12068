"""A small Kubernetes API held in memory: `mk8s demo` without a cluster, and the tests' API server.

It is a guest, not the house: good enough for stock kubectl, clearly labelled (version
`v1.37.2-mk8s-demo`, annotation `mk8s.io/demo`), without controllers and without any access policy
of its own: whoever has its one bearer token may do everything. A request passes, top to bottom:

- `server`: TLS with a throwaway certificate, bearer token, impersonation, path to handler.
- `discovery`: what is served, and its OpenAPI documents, from the `catalogue` of kinds.
- `reads`, `pages`, `watches`, `writes`: every verb on whatever the catalogue knows, over the
  versioned `store`, which has `defaults` filled in; `call` parses, `patches` change, `views` show.
  `validation` knows the fields, `subresources` and `reviews` are what has a kind of its own.
- `media`: JSON, YAML and CBOR both ways; `protobuf` decodes.
- `pods`: logs. `upgrades` lead to WebSocket or SPDY/3.1 (`spdy`), bounded by an `inlet`:
  `remote_command` runs a small `shell`, `port_forward` greets and echoes. `file_commands` are what
  `kubectl cp` needs, on the `files` of a pod.

What is data is in `data/`: kinds and schemas of a real API server, samples, defaults, columns.
It reads protobuf and CBOR with central's codecs, which the extra `demo` installs (`protobuf` and
`media` alone know). How a real one answers is asked by `tests/kube/test_demo_api_as_real.py`.

It stays in the one wheel: 0.3 MB of the 30 MB that the base install of `mk8s` takes, and no
command but `mk8s demo` imports any of it.
Nothing else of mk8s imports it: `mk8s demo` starts `python -m mk8s_cli.demo_api`, and tests use
`mk8s_cli.demo_api.server.running_demo_api`.
"""
