"""The handler chain: every door of a request to a cluster, in order, in one synchronous function.

Called by the connections of `listener` through what `process.app` joins; calls `identity`, `authz`,
`audit`, `answers` and `tunnel`. `handler_chain` is the walk, `addresses` says what is asked of
which cluster, `departures` is the way out, `ports` what the chain needs around it. It starts no
task, takes no lock and reads no database; `api_upstream`, the way to the management API, is its
only part that does I/O.
"""
