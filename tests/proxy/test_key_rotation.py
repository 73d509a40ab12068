"""The phases of signing keys: published, signing, verifying, ended, retired."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.db.keys import KeyRecord
from mk8s_proxy.identity.access_token import LEEWAY
from mk8s_proxy.identity.key_rotation import (
    Phase,
    Rotation,
    key_statuses,
    rotation_of,
    usable_keys,
)
from mk8s_proxy.identity.signing_keys import SigningKey, SigningKeys
from mk8s_proxy.settings.model import PolicySettings, Settings, TokenSettings

PEM = SigningKey.generate().private_pem()
START = datetime(2027, 1, 1, tzinfo=UTC)
ROTATION = Rotation(settle=100, verify=1000)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(kid: str, created: float, retired: float | None = None) -> KeyRecord:
    return KeyRecord(kid, PEM, at(created), None if retired is None else at(retired))


def phases(now: float, *records: KeyRecord) -> dict[str, Phase]:
    statuses = key_statuses(records, now=at(now), rotation=ROTATION)
    return {status.record.kid: status.phase for status in statuses}


def test_the_first_key_signs_at_once() -> None:
    (status,) = key_statuses([record("a", 0)], now=at(0), rotation=ROTATION)
    assert (status.phase, status.signs_from, status.verifies_until) == ("signing", at(0), None)
    assert key_statuses([], now=at(0), rotation=ROTATION) == []


@pytest.mark.parametrize(
    ("now", "old", "new"),
    [
        (500, "signing", "pending"),
        (599, "signing", "pending"),
        (600, "verifying", "signing"),
        (1599, "verifying", "signing"),
        (1600, "ended", "signing"),
    ],
)
def test_a_new_key_signs_once_all_know_it_and_the_old_one_ends_with_its_tokens(
    now: float, old: Phase, new: Phase
) -> None:
    keys = record("old", 0), record("new", 500)
    assert phases(now, *keys) == phases(now, *reversed(keys)) == {"old": old, "new": new}


def test_when_the_old_key_ends_is_known_before_it_stops_signing() -> None:
    keys = record("old", 0), record("new", 500)
    old, new = key_statuses(keys, now=at(501), rotation=ROTATION)
    assert (old.verifies_until, new.verifies_until) == (at(1600), None)
    assert (old.signs_from, new.signs_from) == (at(0), at(600))


def test_without_the_key_that_signed_the_one_that_waited_signs_at_once() -> None:
    assert phases(510, record("old", 0, 510), record("new", 500)) == {
        "old": "retired",
        "new": "signing",
    }


def test_the_key_before_signs_again_when_the_newest_is_retired() -> None:
    keys = record("old", 0), record("new", 500, 700)
    assert phases(700, *keys) == {"old": "signing", "new": "retired"}


def test_only_keys_whose_tokens_are_accepted_are_read() -> None:
    keys = record("ended", 0), record("gone", 1, 2), record("live", 500), record("next", 1600)
    read = usable_keys(keys, now=at(1601), rotation=ROTATION)
    assert [(key.kid, key.signs_from) for key in read] == [
        ("live", at(600).timestamp()),
        ("next", at(1700).timestamp()),
    ]


def test_the_times_follow_from_the_settings(tmp_path: Path) -> None:
    policy = PolicySettings(poll_seconds=5, lease_seconds=60)
    usual = Settings(data_dir=tmp_path, policy=policy)
    assert rotation_of(usual) == Rotation(settle=70 + LEEWAY, verify=900 + LEEWAY)
    long = Settings(data_dir=tmp_path, tokens=TokenSettings(access_seconds=3600))
    assert rotation_of(long).verify == 3600 + LEEWAY
    short = Settings(data_dir=tmp_path, tokens=TokenSettings(access_seconds=60))
    assert rotation_of(short).verify == 900 + LEEWAY, "page tokens live longer than access tokens"


@given(
    created=st.lists(st.integers(0, 3000), min_size=1, max_size=6, unique=True),
    retired=st.sets(st.integers(0, 5)),
    now=st.integers(0, 6000),
    skew=st.integers(-int(LEEWAY), int(LEEWAY)),
)
def test_what_one_replica_signs_with_every_other_accepts(
    created: list[int], retired: set[int], now: int, skew: int
) -> None:
    """Whatever is stored: clocks differ by the leeway, and a token lives `verify` less that."""
    records = [
        record(f"k{place}", when, 0 if place in retired else None)
        for place, when in enumerate(created)
    ]
    keys = SigningKeys(usable_keys(records, now=at(now), rotation=ROTATION))
    if all(it.retired_at for it in records):
        assert keys.jwks() == {"keys": []}
        return
    signing = keys.signing(at(now).timestamp()).kid
    assert phases(now, *records)[signing] == "signing"
    for later in (now, now + int(ROTATION.verify - LEEWAY) - 1):
        elsewhere = SigningKeys(usable_keys(records, now=at(later + skew), rotation=ROTATION))
        assert elsewhere.public(signing) is not None
