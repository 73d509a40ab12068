"""Reads central's settings: a YAML file, then ``MK8S_*`` environment variables over it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mk8s_agent.wire.settings import Names, SettingsError, build, read_values, variables_of
from mk8s_proxy.settings.config_variable import CONFIG_VARIABLE
from mk8s_proxy.settings.model import Settings
from mk8s_proxy.settings.spellings import DRIVER, REFUSED, SPELLINGS, driver_problem

_NAMES: Final = Names(
    Settings,
    "MK8S_",
    others=(CONFIG_VARIABLE, "MK8S_AGENT_", "MK8S_TEST_", "MK8S_CLI_"),
    spellings=SPELLINGS,
    refused=REFUSED,
)
"""Other programs share machines and shells with central."""


def load_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        path: the YAML file; None for environment and defaults only.
        environment: usually ``os.environ``.

    Raises:
        SettingsError: with every problem, each one line.
    """
    values = read_values(_NAMES, path, environment)
    settings = build(Settings, values)
    if problem := driver_problem(values.get(DRIVER), settings):
        raise SettingsError([problem])
    return settings


def environment_variables() -> dict[str, str]:
    """The variable of each setting, by its place in the file. For documentation and tests."""
    return variables_of(_NAMES)
