"""Names that may become headers, and the directory of users that tokens may speak for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.identity.directory import UserDirectory
from mk8s_proxy.identity.identity import CLUSTER_NAME, is_safe_user_name


@pytest.mark.parametrize("name", ["dev@example.com", "d\u00e9v@example.com", "ci-bot", "x" * 256])
def test_names_of_people(name: str) -> None:
    assert is_safe_user_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "a b", "a\tb", "a\r\nb", "a\x00", "a\u2028b", "a\u202eb", "\ud800", "\x1b[31m"),
        *("system:masters", "SYSTEM:admin", "x" * 257, "\u00e9" * 129),
    ],
)
def test_names_that_would_be_something_else(name: str) -> None:
    assert not is_safe_user_name(name)


@given(st.text())
def test_safe_names_never_hold_control_characters(name: str) -> None:
    if is_safe_user_name(name):
        assert name.encode("utf-8")
        assert not any(ord(character) < 33 or ord(character) == 127 for character in name)


@pytest.mark.parametrize("name", ["prod", "a", "1", "a-b-c", "a" * 63])
def test_cluster_names(name: str) -> None:
    assert CLUSTER_NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a.b", "a/b", "a" * 64, "a\n", "../x", "\u00e9"]
)
def test_what_is_no_cluster_name(name: str) -> None:
    assert not CLUSTER_NAME.fullmatch(name)


def test_an_empty_directory_knows_nobody() -> None:
    assert UserDirectory()("anybody") is None


def test_a_directory_counts_changes_only() -> None:
    directory = UserDirectory()
    directory.replace({"a": 1, "b": 2})
    assert (directory("a"), directory.generation) == (1, 1)
    directory.replace({"b": 2, "a": 1})
    assert directory.generation == 1
    directory.replace({"a": 5})
    assert (directory("a"), directory("b"), directory.generation) == (5, None, 2)


def test_a_directory_keeps_no_hold_on_what_it_was_given() -> None:
    directory, given_epochs = UserDirectory(), {"a": 1}
    directory.replace(given_epochs)
    given_epochs["b"] = 1
    assert directory("b") is None
