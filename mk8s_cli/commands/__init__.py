"""The commands of `mk8s`, one module for each, found by name in `command_table`.

Nothing imports a command but the table, so that each costs only its own start. A command reads its
options, calls the other rooms and writes to the terminal; it keeps no rule of its own.
"""
