"""The one port: TLS by server name, then the protocol by ALPN.

The name `tunnel.mk8s.internal` gets the context that demands an agent's certificate; every other
name gets the public one, without client certificates.
"""
