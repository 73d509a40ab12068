"""The variable that names the YAML file. Apart from `load`, since `--help` names it too."""

from typing import Final

CONFIG_VARIABLE: Final = "MK8S_CONFIG"
