"""`python -m mk8s_cli`: the same program as the `mk8s` script, for kubeconfigs of odd installs."""

from mk8s_cli.main import program

if __name__ == "__main__":
    program()
