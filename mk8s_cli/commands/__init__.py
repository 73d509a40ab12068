"""The commands: each turns options into calls and answers into lines, and decides nothing else.

Called through `mk8s_cli.command_table`, which imports a module when its command runs.
"""
