"""YAML as the CLI reads it: its own configuration and the files of policy. Plain values only.

Called by `login.config` and `central.policy_file`. The kubeconfig, of which most belongs to others,
has a reader of its own that keeps what it does not know.
"""

from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mk8s_cli.terminal.errors import CliError

MAX_BYTES = 16 << 20
"""As much as `mk8s-central init -f` reads of the same file."""
MAX_VALUES = 500_000
"""Aliases of aliases can make a short file mean a huge one."""


def read_yaml(content: bytes) -> Any:
    """Return what the text means; None where there is nothing.

    Raises:
        CliError: too large, not YAML, or a key twice, of which YAML would silently drop one. The
            message completes "FILE is ".
    """
    if len(content) > MAX_BYTES:
        raise CliError(f"larger than {MAX_BYTES >> 20} MiB")
    loader = None
    try:
        loader = yaml.SafeLoader(content.decode())
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None)
        raise CliError(f"not valid YAML{place}{f': {problem}' if problem else ''}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _check(root: Node) -> None:
    """Refuse keys that are there twice, and more values than any of our files has."""
    waiting, values = [root], 0
    while waiting:
        node = waiting.pop()
        values += 1
        if values > MAX_VALUES:
            raise yaml.MarkedYAMLError(problem="too many values", problem_mark=node.start_mark)
        if isinstance(node, SequenceNode):
            waiting += node.value
        elif isinstance(node, MappingNode):
            _check_keys(node)
            waiting += [value for _, value in node.value]


def _check_keys(mapping: MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in mapping.value:
        if isinstance(key, ScalarNode) and key.value in seen:
            problem = f"the key {key.value!a} is there twice"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        seen.add(str(key.value))
