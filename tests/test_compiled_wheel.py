"""What mypyc makes another program of, found without compiling (see deploy/wheel/backend.py)."""

import ast
from collections import defaultdict

import pytest

from tests.compiled_check import CHECKOUT, hot_modules


def test_what_is_compiled_is_there() -> None:
    assert [path for path in hot_modules() if not (CHECKOUT / path).is_file()] == []


def names_of_two_types(tree: ast.AST) -> list[str]:
    """Names that a function gives to exceptions of more than one type.

    A variable of compiled code has one type for the whole function: the second `except` raises a
    TypeError instead of handling what it caught. One of HPACK's errors did so.
    """
    found = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            types = defaultdict(set)
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                    types[node.name].add(ast.unparse(node.type))
            found += [f"{function.name}: {name}" for name, seen in types.items() if len(seen) > 1]
    return found


def builtin_containers(tree: ast.AST) -> list[str]:
    """Classes that derive from dict or list: their compiled instances have no attributes."""
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).split("[")[0] in ("dict", "list", "set") for base in node.bases)
    ]


@pytest.mark.parametrize("path", hot_modules())
def test_it_means_the_same_when_compiled(path: str) -> None:
    tree = ast.parse((CHECKOUT / path).read_text())
    assert names_of_two_types(tree) == []
    assert builtin_containers(tree) == []


def test_the_checks_find_what_they_look_for() -> None:
    tree = ast.parse("""
class Known(dict[str, int]):
    def read(self):
        try:
            pass
        except ValueError as error:
            pass
        except KeyError as error:
            pass
""")
    assert names_of_two_types(tree) == ["read: error"]
    assert builtin_containers(tree) == ["Known"]
