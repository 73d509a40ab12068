"""What mypyc makes another program of, found without compiling (see deploy/wheel)."""

import ast
import re
import shutil
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import pytest

from tests import compiled_check
from tests.compiled_check import CHECKOUT, hot_modules

RULES = compiled_check.rules()
MARKED = sorted(
    (path.relative_to(CHECKOUT).as_posix(), RULES.mark(path))
    for package in RULES.PACKAGES
    for path in (CHECKOUT / package).rglob("*.py")
    if RULES.mark(path)
)


@pytest.mark.parametrize("room", RULES.ROOMS)
def test_each_compiled_room_is_there(room: str) -> None:
    files = [path for path in hot_modules() if path.rpartition("/")[0] == room]
    assert files, "a renamed room must not slip out of the compiled wheel"


@pytest.mark.parametrize(("path", "word"), MARKED)
def test_a_file_says_only_what_is_unusual_in_its_room(path: str, word: str) -> None:
    usual = "compiled" if path.rpartition("/")[0] in RULES.ROOMS else "interpreted"
    assert word != usual


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('"""What it is."""\n\n# compiled: every request\nimport os\n', "compiled"),
        ('"""What it is.\n\nMore: "so".\n"""\n\n# interpreted: waits\n', "interpreted"),
        ('"""What it is."""\n\n# compiled:\n', ""),
        ('"""What it is."""\n\n# compiled by hand\n', ""),
        ('"""What it is."""\n\nimport os\n\n# compiled: too late\n', ""),
        ('"""What it is.\n\n# compiled: in the docstring\n"""\n', ""),
        ("", ""),
    ],
)
def test_what_a_file_says_of_itself(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "it.py").write_text(text)
    assert RULES.mark(tmp_path / "it.py") == word


def test_a_mark_is_not_overlooked() -> None:
    """One that stands elsewhere in a file would do nothing."""
    meant = re.compile(r"^# (compiled|interpreted): ", re.MULTILINE)
    for package in ("mk8s_agent", "mk8s_proxy", "mk8s_cli"):
        for path in (CHECKOUT / package).rglob("*.py"):
            words = meant.findall(path.read_text())
            assert words == ([RULES.mark(path)] if words and RULES.mark(path) else []), path


@pytest.mark.parametrize(
    ("file", "runs_again"),
    [
        ("mk8s_proxy/kube/request_info.py", True),
        ("tests/proxy/test_request_info.py", True),
        ("tests/support/legs.py", True),
        ("tests/conftest.py", True),
        ("deploy/wheel/backend.py", True),
        ("mk8s_cli/__main__.py", False),
        ("mk8s_proxy/api/users.py", False),
        ("tests/proxy/test_db_stores.py", False),
        ("tests/kube/test_reviews.py", False),
        ("tests/test_layout.py", False),
    ],
)
def test_what_changed_decides_whether_the_compiled_wheel_is_tested_again(
    file: str, runs_again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mk8s_agent", "mk8s_proxy", "mk8s_cli", *compiled_check.DECISIVE):
        source, copied = CHECKOUT / name, tmp_path / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copied)
    monkeypatch.setattr(compiled_check, "CHECKOUT", tmp_path)
    before = compiled_check.state()
    assert compiled_check.state() == before
    with (tmp_path / file).open("r+") as changed:
        changed.write("# changed")
    assert (compiled_check.state() != before) == runs_again


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


def derived_from(classes: Collection[str], tree: ast.AST) -> list[str]:
    """Classes that derive from one of these: `module:class`."""
    imported = {
        name.asname or name.name: f"{node.module}:{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    return [
        f"{node.name}({base.id})"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name) and imported.get(base.id) in classes
    ]


def test_no_interpreted_class_derives_from_a_compiled_one() -> None:
    """Methods of the compiled one take no such instance: a TypeError, in the wheel alone."""
    hot = set(hot_modules())
    trees = {
        path.relative_to(CHECKOUT).as_posix(): ast.parse(path.read_text())
        for package in ("mk8s_agent", "mk8s_proxy")
        for path in (CHECKOUT / package).rglob("*.py")
    }
    compiled = {
        f"{path.removesuffix('.py').replace('/', '.')}:{node.name}"
        for path in hot
        for node in ast.walk(trees[path])
        if isinstance(node, ast.ClassDef)
    }
    found = {path: derived_from(compiled, tree) for path, tree in trees.items() if path not in hot}
    assert not {path: names for path, names in found.items() if names}
    odd = ast.parse("from mk8s_proxy.kube.status import StatusError\nclass Mine(StatusError): pass")
    assert derived_from(compiled, odd) == ["Mine(StatusError)"]


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
