"""The audit journal: no request reaches a cluster without its row.

What it promises, and how:

- **Intent before action.** The handler chain gives the journal an *intent* row (stage
  RequestReceived) for every request it admits, and calls `Journal.commit()` at the end of the loop
  tick, before any stream head of that tick is handed to a tunnel. All rows of a tick are one
  `write`. If it fails, or is cut short by a full disk, the file is cut back to its last whole row,
  commit says False, and the requests of those intents are answered 503 (Retry-After is right here:
  nothing was sent).
- **Outcome after.** At the end of a request an *outcome* row (stage ResponseComplete) with the
  status, bytes and duration, written with the rows of the next requests, 5 ms later at most. A
  failed append keeps outcomes for the next commit, up to a bound: an intent without an outcome
  means "outcome unknown", never "did not happen"; so does a process killed within these 5 ms.
- **A refusal is one row**, stage ResponseComplete with decision "forbid" and the reason code.
- **One row is one line of ASCII.** Rows are `audit.k8s.io/v1` Events of level Metadata, so tools
  that read the API server's audit log read this one; what is ours stands in annotations
  "mk8s.io/...". Names, paths and user agents come from strangers: control characters, line
  separators and bidirectional overrides are escaped, long values are cut and the row says so.
- **No secret in it.** Query values whose names look like those of tokens or passwords, user
  information of URLs, tokens wherever they stand and what the operator's patterns say of exec
  commands are replaced before the row is made; headers and bodies are never part of it.
- **Strangers cannot wash it away.** Refusals without a verified identity go to files of their own,
  by a quota; what is beyond it is counted there.
- **Files**: mode 0600 in a folder only its owner may write to, locked to one process, rotated by
  size at a commit, the oldest removed. A row half written by a crash is cut off at the next start:
  its request was never sent. Requests that were open at a crash get an outcome row then, with code
  0 and "mk8s.io/outcome: unknown".
- **A file that goes away** (removed, moved, replaced, cut short) is noticed within a second, before
  a rotation and at SIGHUP; a new one begins, with a row that says so and with the rows since the
  last sync. Until that works, requests get 503.

Durability: a committed row survives the death of the process at once (it is in the kernel), and
the death of the machine after the next `Journal.sync()`, which a background thread calls. When a
sync fails, no request is admitted until a new file has begun and is synced: the kernel forgets what
it could not write, so a later sync of the same file proves nothing. That file is kept aside.

A slow disk: a thread writes for the loop, which waits for it 20 ms at most. A write that takes
longer goes on without the loop; its requests, and those behind them, wait for two seconds and then
get 503. This costs 8 to 10 microseconds of processor time for a commit, 25 where all processors
are busy and the loop comes back to cold caches; a write by the loop itself would take 2. But no
such write is safe. ext4 has none that refuses to block (RWF_NOWAIT); a plain one waits there for a
commit of the file system's own journal that has the file's inode in it, which others' syncs begin
too, and on every file system for one that is frozen (snapshots). A queue with answers by the loop's
own wake-up would cost as much as the thread, and make every request wait for a turn of the loop.

`event` is what a request fills; `rows` makes rows of it, from remembered pieces, because every
request pays for two; `redaction` is what must not be in them. All that is pure; `journal` and
`strangers` own a `journal_file` each, `writer` is the thread, `unfinished` reads after a crash.
For the database, `follower` reads the files, each row once and in order, and none that could still
be taken back; `record` makes one record of a request's two rows, `command` the command in it. What
ships them (`mk8s_proxy.process.audit_shipping`) only reads what is here.
"""
