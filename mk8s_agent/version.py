"""Which release this is: told to central, and by ``--version``."""

import importlib.metadata


def agent_version() -> str:
    """Give the release, "unknown" where only this package was copied and nothing was installed."""
    try:
        return importlib.metadata.version("mk8s")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
