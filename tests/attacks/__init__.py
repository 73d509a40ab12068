"""Attacks on a started central and agent, beside another user's small requests.

`python -m tests.attacks` runs them and writes RESULTS.md; each family of attacks is a module of
its own, listed in `catalogue`. Nothing here is reached by the programs.
"""
