"""Settings that are lists of sections: what each item may say, and every mistake with its place."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.setting_items import MOST_ITEMS, item_type, read_items
from mk8s_agent.wire.setting_values import Unusable, UnusableItems
from mk8s_agent.wire.settings import Names, SettingsError, build, read_values


@dataclasses.dataclass(frozen=True)
class Wheel:
    spokes: int = dataclasses.field(default=8, metadata={"least": 1, "most": 99})


@dataclasses.dataclass(frozen=True)
class Cart:
    name: str
    wheels: tuple[Wheel, ...] = ()
    file: Path | None = None
    colours: tuple[str, ...] = ("red",)
    covered: bool = False


@dataclasses.dataclass(frozen=True)
class Yard:
    carts: tuple[Cart, ...] = ()
    words: tuple[str, ...] = ()


NAMES = Names(Yard, "YARD_")


def loaded(tmp_path: Path, text: str, **variables: str) -> Yard:
    file = tmp_path / "yard.yaml"
    file.write_text(text)
    return build(Yard, read_values(NAMES, file, variables))


def test_items_of_a_file_are_dataclasses(tmp_path: Path) -> None:
    text = """
    carts:
      - {name: "${WHO}", wheels: [{spokes: 12}, {}], file: /a, covered: yes}
      - {name: b, colours: [blue], wheels: }
    """
    assert loaded(tmp_path, text, WHO="a") == Yard(
        (Cart("a", (Wheel(12), Wheel()), Path("/a"), covered=True), Cart("b", colours=("blue",)))
    )


def test_items_of_the_environment_are_json_and_go_over_the_file(tmp_path: Path) -> None:
    said = json.dumps([{"name": "c", "wheels": [{"spokes": 3}]}])
    assert loaded(tmp_path, "carts: [{name: a}]", YARD_CARTS=said) == Yard(
        (Cart("c", (Wheel(3),)),)
    )
    assert loaded(tmp_path, "carts: [{name: a}]", YARD_CARTS=" ") == Yard()


def test_every_mistake_is_told_with_its_place(tmp_path: Path) -> None:
    text = """
carts:
  - {nam: a, wheels: [{spokes: 0}, 7]}
  - 5
  - {name: [x], wheels: {}, zzz: 1}
"""
    with pytest.raises(SettingsError) as refusal:
        loaded(tmp_path, text)
    where = f"{tmp_path / 'yard.yaml'}:2: carts"
    assert refusal.value.problems == [
        f'{where}[0]: unknown setting "nam" (did you mean "name"?)',
        f"{where}[0].wheels[0].spokes: must be at least 1",
        f"{where}[0].wheels[1]: must be a mapping of settings",
        f"{where}[0]: name is missing",
        f"{where}[1]: must be a mapping of settings",
        f"{where}[2].name: must be text (put it in quotes)",
        f"{where}[2].wheels: must be a list of mappings",
        f'{where}[2]: unknown setting "zzz"',
    ]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "must be a list in JSON"),
        ("[" * 100_000, "must be a list in JSON"),
        ("{}", "must be a list of mappings"),
        (7, "must be a list of mappings"),
        ([{}] * (MOST_ITEMS + 1), "must be a list of mappings"),
    ],
)
def test_what_is_no_list_of_items_is_refused(value: object, says: str) -> None:
    with pytest.raises(Unusable, match=says):
        read_items(Cart, value)


def test_other_lists_are_none_of_sections() -> None:
    assert item_type(tuple[str, ...]) is None
    assert item_type(str) is None
    assert item_type(tuple[Cart, ...]) is Cart


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "wheels", "file", "colours", "covered", "spokes", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def outcome(value: object) -> list[str] | tuple[object, ...]:
    try:
        return read_items(Cart, value)
    except UnusableItems as refusal:
        return refusal.problems
    except Unusable as refusal:
        return [str(refusal)]


@given(JSON)
def test_anything_is_read_or_refused_in_one_line_each(value: object) -> None:
    found = outcome(value)
    if isinstance(found, list):
        assert found
        assert all("\n" not in str(line) for line in found)
    else:
        assert all(isinstance(it, Cart) and isinstance(it.name, str) for it in found)
