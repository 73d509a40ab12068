"""What an operator can set: values with defaults (`model`), from YAML and variables (`load`).

Any room may take a part of the model; only `process` loads it. It opens the files it is told to
read and nothing else, and a wrong value becomes a sentence that names it (`wire.settings`).
"""
