"""The management API: logins, clusters, users, roles, and the admission of agents.

An aiohttp application on a private Unix socket; the listener relays to it everything on central's
host that is not a request for a cluster. It is a side entrance: it never sees a Kubernetes
request, and the handler chain never waits for it.

One request, top to bottom (`middleware`, then `endpoint.Door`):

    request id -> who calls -> may they -> body as a pydantic model -> audit intent -> handler
               -> audit outcome -> JSON -> one log line

- `application`: puts the table of endpoints together; `context`: what it is given.
- `login`, `clusters`, `users`, `roles`, `join`, `audit`: handlers and their part of the table,
  by subject.
- `schemas`: every body, in and out; the OpenAPI document (`openapi`) is made from them.
- `errors`: one shape for all refusals; `audit_rows`: one row for all that changes anything.

Trust boundary: `x-mk8s-source-ip` is believed, since only the listener can reach the socket and it
overwrites what clients send; everything else of a request is hostile. Admin rights are read
from the database for each request, not from a token or a snapshot, so taking them away is instant.

| what fails | answer |
|---|---|
| credential missing, forged, expired, of a disabled user | 401, no reason that helps guessing |
| not an admin | 403 |
| body or query not as the schema says | 422 naming the field |
| too many attempts | 429 with Retry-After |
| database or journal down | 503; nothing was changed, no credential handed out |
| a bug | 500 with an id that is in the log beside the traceback |
"""
