"""What a person sees, and small private files: tables, progress, one-line errors, validation.

Any room may call it and it calls none. What comes from the network is a stranger's text and is
checked (`validation`) or escaped (`screen`) before it reaches a terminal or a file.
"""
