"""Where the key of the secrets in the database is: a part of the settings.

Read by `process.vault`.
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SecretsSettings:
    """The key that secrets in the database are sealed with: private keys, tokens of issuers."""

    key_file: Path | None = None
    """File with mode 0600 (or 0640), the same for all replicas; by default secret.key in
    ``data_dir``. `mk8s-central init` makes it. Of several keys in it the first one seals."""
    key: str = field(default="", repr=False)
    """The keys themselves, in place of the file: each is base64 of 32 bytes, with white space
    between. It is best kept out of the YAML file."""
