"""`python -m mk8s_cli`: the same program as the `mk8s` script, for kubeconfigs of odd installs."""

import sys

from mk8s_cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
