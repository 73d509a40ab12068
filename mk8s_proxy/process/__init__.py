"""The programs: `mk8s-central` and its commands, and the composition of all other rooms.

Called by the command line alone; nothing imports it. Here, and nowhere else, parts are constructed
and joined (`app`), processes are started and ended (`supervisor`, `worker`, `run`), and the
process's arguments and environment are read (`main`). It decides nothing about a request.
"""
