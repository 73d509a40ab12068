"""The command: `python -m tests.attacks [--list] [--quick] [--only NAME...]`."""

import sys

from tests.attacks.session import main

if __name__ == "__main__":
    sys.exit(main())
