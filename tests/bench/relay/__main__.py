"""The benchmark's command: `python -m tests.bench.relay [--quick] [--rounds N] [--only NAME...]`.

What it measures is in `catalogue`, how it reports in `report`.
"""

import sys

from tests.bench.relay.session import main

if __name__ == "__main__":
    sys.exit(main())
