"""Group write that `fsGroup` gave is ours alone; all other write bits are somebody else's."""

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.wire import pki, volume_modes
from mk8s_agent.wire.volume_modes import others_write

GROUP = 10001


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume as the kubelet hands it to a pod with `fsGroup: 10001`, and we are in that pod."""
    folder = tmp_path / "volume"
    folder.mkdir()
    alone(monkeypatch)
    monkeypatch.setattr(os, "getgroups", lambda: [GROUP])
    monkeypatch.setattr(Path, "stat", in_group(Path.stat))
    monkeypatch.setattr(os, "fstat", in_group(os.fstat))
    folder.chmod(0o2770)
    return folder


def in_group(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    """The facts of a file as if the group owned it: chown takes a right that we may not have."""

    def looked(*arguments: Any, **named: Any) -> os.stat_result:
        facts = list(look(*arguments, **named))
        facts[5] = GROUP
        return os.stat_result(facts)

    return looked


def alone(monkeypatch: pytest.MonkeyPatch, members: list[str] | None = None) -> None:
    """The accounts of an image: the group has no name, or these members."""

    def group_of(number: int) -> grp.struct_group:
        if members is None:
            raise KeyError(number)
        return grp.struct_group(("data", "x", number, members))

    ours = pwd.struct_passwd(("mk8s", "x", os.geteuid(), GROUP, "", "/", "/bin/false"))
    monkeypatch.setattr(grp, "getgrgid", group_of)
    monkeypatch.setattr(pwd, "getpwall", lambda: [ours])


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o2770, 0o2775])
def test_a_volume_of_fs_group_is_ours(volume: Path, mode: int) -> None:
    volume.chmod(mode)
    assert not others_write(volume.stat())


@pytest.mark.parametrize("mode", [0o777, 0o2777, 0o1777, 0o702, 0o770, 0o775])
def test_planted_files_where_others_may_write(volume: Path, mode: int) -> None:
    volume.chmod(mode)
    assert others_write(volume.stat())


def test_planted_files_by_a_member_of_the_group(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(monkeypatch, ["mk8s"])
    assert not others_write(volume.stat())
    alone(monkeypatch, ["mk8s", "mallory"])
    assert others_write(volume.stat())


def test_planted_files_by_an_account_whose_own_group_it_is(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = pwd.struct_passwd(("mallory", "x", os.geteuid() + 1, GROUP, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [other])
    assert others_write(volume.stat())


def test_planted_files_by_a_group_that_we_are_not_in(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getgroups", list)
    assert others_write(volume.stat())


@pytest.mark.parametrize(("mode", "is_read"), [(0o660, True), (0o640, True), (0o662, False)])
def test_a_key_on_a_volume_of_fs_group(volume: Path, mode: int, is_read: bool) -> None:
    key = volume / "key.pem"
    pki.write_private(key, b"secret")
    key.chmod(mode)
    if is_read:
        assert pki.read_private(key) == b"secret"
    else:
        with pytest.raises(pki.PkiError, match="chmod 600"):
            pki.read_private(key)


def test_a_key_that_another_group_may_write(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = volume / "key.pem"
    pki.write_private(key, b"secret")
    key.chmod(0o660)
    monkeypatch.setattr(volume_modes, "_only_us", lambda group: group != GROUP)
    with pytest.raises(pki.PkiError, match="chmod 600"):
        pki.read_private(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o660
