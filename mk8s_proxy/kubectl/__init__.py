"""kubectl's command line, read and judged before central runs it for somebody. Pure.

Called by the management API (`POST /clusters/{id}/exec`) with a caller's arguments; gives back
other ones, which alone are ever run:

    caller's arguments -> `arguments` (read as cobra and pflag do) -> `rules` (an allow list of
    commands, and of flags for each of them) -> `check` (composed anew, one spelling for everything)

So nothing a caller wrote reaches kubectl's parser as it was: a flag is always `--name=value`, and
what stood behind `--` stands behind `--`. What cannot be read, is not in the tables or not in the
list is refused. `flags.json` is made from stock kubectls (`tests/kubectl_flags`); whoever renews
it has to decide on each new flag, or a test fails. May not open sockets, processes or files
but its own table.
"""
