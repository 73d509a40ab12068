"""The audit journal: no request reaches a cluster without its row.

What it promises, and how:

- **Intent before action.** The handler chain gives the journal an *intent* row (stage
  RequestReceived) for every request it admits, and calls `Journal.commit()` at the end of the loop
  tick, before any stream head of that tick is handed to a tunnel. All rows of a tick are one
  `write`. If it fails, or is cut short by a full disk, the file is cut back to its last whole row,
  commit says False, and the requests of those intents are answered 503 (Retry-After is right here:
  nothing was sent).
- **Outcome after.** At the end of a request an *outcome* row (stage ResponseComplete) with the
  status, bytes and duration. A failed append keeps outcomes for the next commit, up to a bound:
  an intent without an outcome means "outcome unknown", never "did not happen".
- **A refusal is one row**, stage ResponseComplete with decision "forbid" and the reason code.
- **One row is one line of ASCII.** Rows are `audit.k8s.io/v1` Events of level Metadata, so tools
  that read the API server's audit log read this one; what is ours stands in annotations
  "mk8s.io/...". Names, paths and user agents come from strangers: control characters, line
  separators and bidirectional overrides are escaped, long values are cut and the row says so.
- **No secret in it.** Query values named like tokens or passwords are replaced before the row is
  made; headers and bodies are never part of it.
- **Files**: mode 0600 in a folder only its owner may write to, locked to one process, rotated by
  size at a commit, the oldest removed. A row half written by a crash is cut off at the next start:
  its request was never sent.

Durability: a committed row survives the death of the process at once (it is in the kernel), and
the death of the machine after the next `Journal.sync()`, which a background thread calls. When a
sync fails, no request is admitted until one succeeds again.

`event` is what a request fills; `plain_rows` says what its rows are, and `rows` makes the same ones
from remembered pieces, because every request pays for two. All that is pure; `journal` owns the
file. The shipper that copies rows into the database only reads what is here.
"""
