"""``python -m mk8s_proxy`` is ``mk8s-central``."""

from mk8s_proxy.process.main import main

if __name__ == "__main__":
    main(prog_name="mk8s-central")
