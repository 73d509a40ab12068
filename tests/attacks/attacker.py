"""One attack in a process of its own: `python -m tests.attacks.attacker WORLD NAME SECONDS`.

Prints "begun" when it starts, and what it did, as JSON, when it ends.
"""

import json
import os
import resource
import sys
from pathlib import Path

from tests.attacks import catalogue
from tests.attacks.attack import Load
from tests.attacks.wire import Attacker, World

NICE = 10
"""An attacker brings his own machine: here he takes the processor that others leave."""


def main() -> int:
    """Attacks; the exit code."""
    file, name, seconds = sys.argv[1:4]
    attack = catalogue.named(name)
    assert isinstance(attack, Load)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    os.nice(NICE)
    attacker = Attacker(World.load(Path(file)), float(seconds))
    print("begun", flush=True)
    attack.act(attacker)
    print("counts " + json.dumps(vars(attacker.counts)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
