"""Kubernetes's own reading of a request, for tests: one Go process, JSON lines.

`main.go` is built from k8s.io/apiserver and Go's net/http (`python -m tests.oracle.build`), so that
what mk8s understands is compared with what an API server will understand, and not with a copy of
its rules; `proxied` asks golang.org/x/net/http/httpproxy whether a Go program takes a proxy.
`compare` says where the two readings differ, `generate` makes request lines near every
border, and `python -m tests.oracle.fuzz` runs many of them.
"""
