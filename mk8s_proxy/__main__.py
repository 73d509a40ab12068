"""``mk8s-central``, as the installed script and as ``python -m mk8s_proxy``."""

import gc
import sys

from mk8s_agent.wire.interpreter import leave, start_again_alone

GC_THRESHOLD = 50_000
"""New objects before the collector looks for circles: more than `--help` makes. What serves chooses
its own once it is ready."""
EXPLAINS = frozenset({"-h", "--help", "--version"})
"""Behind these nothing was started that would have to be ended."""


def script() -> None:
    """Run the command from the installed script, away from the caller's Python environment."""
    start_again_alone("mk8s_proxy")
    main()


def main() -> None:
    """Run the command."""
    gc.set_threshold(GC_THRESHOLD)
    # Here, since even click could be a module of the caller's.
    from mk8s_proxy.process import main as commands  # noqa: PLC0415

    try:
        commands.main(prog_name="mk8s-central")
    except SystemExit as ended:
        if EXPLAINS.intersection(sys.argv) and not ended.code:
            leave(0)
        raise


if __name__ == "__main__":
    main()
