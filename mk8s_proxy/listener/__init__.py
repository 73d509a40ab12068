"""The one port: TLS by server name, the protocol by ALPN, and HTTP with the client.

`server` accepts: the name `tunnel.mk8s.internal` gets the context that demands an agent's
certificate, every other name the public one. `http2` and `http1` speak with kubectl; both check a
head (`request_head`, `http1_head`, `upgrade_head`, `header_names`) and hand it to the chain as an
`exchange.Exchange`. Only they know which version the client speaks. This room decides nothing about
who may do what, and knows neither the database nor a tunnel.
"""
