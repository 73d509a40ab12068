"""The first steps of other people's clients, as their own documentation takes them.

`build.py` fetches the clients that are not Python's, `test_first_steps.py` runs the programs here
against `mk8s demo` through mk8s. What they see is the same on a real cluster.
"""
