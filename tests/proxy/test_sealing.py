"""Secrets in the database: sealed, bound to their place, and worth nothing without the key."""

import asyncio
import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from mk8s_proxy.db import keys, meta
from mk8s_proxy.db.engine import Database
from mk8s_proxy.db.sealing import MOST_KEYS, SealError, Vault, is_sealed, new_key, parse_keys
from mk8s_proxy.identity.authorities import ensure_authorities, load_authorities
from mk8s_proxy.identity.signing_keys import SigningKey
from mk8s_proxy.process import vault as program
from mk8s_proxy.process.app import Central
from mk8s_proxy.process.check_config import check, effective
from mk8s_proxy.process.init import AdminChoice, install
from mk8s_proxy.process.vault import open_secrets, read_vault
from mk8s_proxy.settings.model import Settings
from mk8s_proxy.settings.sealing import SecretsSettings

FIRST, SECOND = bytes(range(32)), bytes(range(1, 33))
PEM = SigningKey.generate().private_pem()
PLACE = "signing_keys/k1"
CHOICE = AdminChoice("admin@example.com", "a very long password", lambda _: "")


@given(st.text(max_size=200), st.text(max_size=40))
def test_what_was_sealed_comes_back_and_is_not_to_be_seen(secret: str, place: str) -> None:
    sealed = Vault([FIRST]).seal(place, secret)
    assert Vault([FIRST]).open(place, sealed) == secret
    assert is_sealed(sealed)
    assert sealed != Vault([FIRST]).seal(place, secret), "the same secret looks different each time"


@given(st.text(max_size=80).map("sealed:".__add__) | st.text(max_size=80))
def test_what_is_no_sealed_secret_is_refused(content: str) -> None:
    with pytest.raises(SealError):
        Vault([FIRST]).open(PLACE, content)


def test_a_sealed_row_swapped_with_another_one_is_refused() -> None:
    vault = Vault([FIRST])
    with pytest.raises(SealError, match="signing_keys/k2 was damaged, or put there from another"):
        vault.open("signing_keys/k2", vault.seal(PLACE, PEM))


@pytest.mark.parametrize("position", [20, 24, 40, -6])
def test_a_sealed_row_changed_by_a_bit_is_refused(position: int) -> None:
    sealed = Vault([FIRST]).seal(PLACE, "x" * 60)
    other = "A" if sealed[position] != "A" else "B"
    changed = sealed[:position] + other + sealed[position:][1:]
    with pytest.raises(SealError):
        Vault([FIRST]).open(PLACE, changed)


def test_a_wrong_key_is_named_and_opens_nothing() -> None:
    right, wrong = Vault([FIRST]), Vault([SECOND])
    with pytest.raises(SealError) as refused:
        wrong.open(PLACE, right.seal(PLACE, PEM))
    assert right.key_ids[0] in str(refused.value)
    assert wrong.key_ids[0] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_secret_in_the_clear_is_not_taken_for_a_sealed_one() -> None:
    with pytest.raises(SealError, match="not sealed"):
        Vault([FIRST]).open(PLACE, PEM)


def test_without_a_key_nothing_is_sealed_or_opened() -> None:
    with pytest.raises(SealError, match=r"secrets\.key_file"):
        Vault().seal(PLACE, PEM)
    with pytest.raises(SealError, match=r"given \(none\)"):
        Vault().open(PLACE, Vault([FIRST]).seal(PLACE, PEM))


def test_the_first_key_seals_and_all_of_them_open() -> None:
    old, both = Vault([FIRST]), Vault([SECOND, FIRST])
    sealed = old.seal(PLACE, PEM)
    assert both.open(PLACE, sealed) == PEM
    assert not both.is_current(sealed)
    again = both.sealed_again(PLACE, sealed)
    assert again is not None
    assert Vault([SECOND]).open(PLACE, again) == PEM
    assert both.sealed_again(PLACE, again) is None


def test_no_key_is_shown() -> None:
    assert repr(Vault([FIRST])) == f"<Vault {Vault([FIRST]).key_ids[0]}>"
    assert repr(Vault()) == "<Vault without a key>"


def test_keys_are_read_with_comments_and_in_both_alphabets() -> None:
    first, second = (base64.b64encode(key).decode() for key in (FIRST, b"\xff" * 32))
    url_safe = base64.urlsafe_b64encode(b"\xff" * 32).decode()
    assert parse_keys(f"# a comment\n{first} # new\n{second}\n") == [FIRST, b"\xff" * 32]
    assert parse_keys(f"{first},{url_safe}") == [FIRST, b"\xff" * 32]
    assert len(parse_keys(new_key())[0]) == 32


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "holds 0 keys"),
        ("# nothing", "holds 0 keys"),
        (" ".join(new_key() for _ in range(MOST_KEYS + 1)), f"holds {MOST_KEYS + 1} keys"),
        ("c2hvcnQ=", "key 1 is not base64 of 32 bytes"),
        (f"{base64.b64encode(FIRST).decode()} ***", "key 2 is not base64"),
        (
            f"{base64.b64encode(FIRST).decode()} {base64.b64encode(FIRST).decode()}",
            "same key twice",
        ),
    ],
)
def test_what_is_no_key_is_refused_and_not_quoted(content: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        parse_keys(content)
    assert "***" not in str(refused.value)


# -- an installation


async def rows(database: Database) -> list[str]:
    """All that the database holds of private keys, as it stands there."""
    async with database.session() as session:
        found = await session.execute(
            text("SELECT private_pem FROM signing_keys UNION ALL SELECT value FROM meta")
        )
        return [value for (value,) in found if value]


async def older_installation(database: Database) -> None:
    """What a release before sealing has left."""
    made, _ = await ensure_authorities(database)
    await keys.add_key(database, "k1", PEM)
    for authority in (made.server_ca, made.agent_ca):
        clear = {
            "certificate": authority.certificate_pem.decode(),
            "key": authority.key_pem.decode(),
        }
        await meta.replace_meta(database, f"ca.{authority.purpose}", json.dumps(clear))
    async with database.transaction() as session:
        await session.execute(text("UPDATE signing_keys SET private_pem = :pem"), {"pem": PEM})
    database.vault = Vault()
    assert sum("PRIVATE KEY" in row for row in await rows(database)) == 3


def settings_of(folder: Path, database: Database, **secrets: object) -> Settings:
    return Settings(
        data_dir=folder,
        database_url=database.url,
        secrets=SecretsSettings(**secrets),  # type: ignore[arg-type]
    )


async def test_an_older_installation_is_sealed_at_its_next_start(
    database: Database, tmp_path: Path
) -> None:
    await older_installation(database)
    assert await open_secrets(settings_of(tmp_path, database), database, make=True)

    found = await rows(database)
    assert not any("PRIVATE KEY" in row for row in found)
    assert [record.private_pem for record in await keys.list_keys(database)] == [PEM]
    await load_authorities(database)
    assert not await open_secrets(settings_of(tmp_path, database), database, make=True)
    assert await rows(database) == found, "what is sealed stays as it is"


async def test_two_replicas_that_start_at_once_seal_the_same(
    database: Database, tmp_path: Path
) -> None:
    await older_installation(database)
    other = Database(database.url)
    await other.start()
    shared = settings_of(tmp_path, database, key=new_key())
    await asyncio.gather(*(open_secrets(shared, it, make=False) for it in (database, other)))
    for replica in (database, other):
        assert [record.private_pem for record in await keys.list_keys(replica)] == [PEM]
        await load_authorities(replica)
    await other.close()


async def test_two_first_starts_at_once_make_one_key(
    sqlite_database: Database, tmp_path: Path
) -> None:
    shared = settings_of(tmp_path, sqlite_database)
    for _ in range(5):
        program._make_key(shared.key_path)
    first = shared.key_path.read_text()
    assert await open_secrets(shared, sqlite_database, make=True) is False
    assert shared.key_path.read_text() == first
    assert shared.key_path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("*secret*")] == ["secret.key"]


async def test_a_missing_key_is_never_replaced_by_a_new_one(
    sqlite_database: Database, tmp_path: Path
) -> None:
    await keys.add_key(sqlite_database, "k1", PEM)
    with pytest.raises(SealError, match="does not exist: put it back from your backup") as refused:
        await open_secrets(settings_of(tmp_path, sqlite_database), sqlite_database, make=True)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "secret.key").exists()


async def test_a_lost_key_is_noticed_for_the_authorities_alone(
    sqlite_database: Database, tmp_path: Path
) -> None:
    await ensure_authorities(sqlite_database)
    with pytest.raises(SealError, match="put it back from your backup"):
        await open_secrets(settings_of(tmp_path, sqlite_database), sqlite_database, make=True)


async def test_a_wrong_key_ends_the_start_and_changes_nothing(
    database: Database, tmp_path: Path
) -> None:
    await keys.add_key(database, "k1", PEM)
    before = await rows(database)
    wrong = settings_of(tmp_path, database, key=new_key())
    with pytest.raises(SealError, match="signing_keys/k1 is sealed by the key"):
        await open_secrets(wrong, database, make=True)
    assert await rows(database) == before


async def test_on_a_shared_database_serve_makes_no_key(
    sqlite_database: Database, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, sqlite_database)
    assert program.makes_own_key(settings)
    assert not program.makes_own_key(Settings(data_dir=tmp_path, database_url="postgresql://db/x"))
    assert not program.makes_own_key(
        settings_of(tmp_path, sqlite_database, key_file=tmp_path / "mine")
    )
    with pytest.raises(SealError, match="run: mk8s-central init"):
        await open_secrets(settings, sqlite_database, make=False)


async def test_the_key_itself_is_changed_with_a_restart(database: Database, tmp_path: Path) -> None:
    await keys.add_key(database, "k1", PEM)
    old, new = base64.b64encode(bytes(32)).decode(), new_key()
    both = settings_of(tmp_path, database, key=f"{new} {old}")
    await open_secrets(both, database, make=False)
    await open_secrets(settings_of(tmp_path, database, key=new), database, make=False)
    assert [record.private_pem for record in await keys.list_keys(database)] == [PEM]


async def test_a_key_that_was_retired_meanwhile_is_not_brought_back(database: Database) -> None:
    await keys.add_key(database, "k1", PEM)
    await keys.add_key(database, "k2", PEM)
    await keys.retire_key(database, "k1")
    both = Vault([FIRST, bytes(32)])
    async with database.transaction() as session:
        assert await keys.seal_keys(session, both) == 1
    database.vault = both
    assert {it.kid: it.private_pem for it in await keys.list_keys(database)} == {
        "k1": "",
        "k2": PEM,
    }


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_text(new_key())
    path.chmod(0o644)
    with pytest.raises(SealError, match="chmod 600"):
        read_vault(Settings(data_dir=tmp_path))


def test_a_key_file_without_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.touch(mode=0o600)
    with pytest.raises(SealError, match=r"secret\.key holds 0 keys"):
        read_vault(Settings(data_dir=tmp_path))


def test_check_config_tells_of_the_key_and_never_shows_it(tmp_path: Path) -> None:
    embedded = Settings(data_dir=tmp_path)
    assert any(note.startswith("secrets.key_file: ") for note in check(embedded).notes)
    assert str(tmp_path / "secret.key") in effective(embedded)

    key = new_key()
    given = Settings(data_dir=tmp_path, secrets=SecretsSettings(key=key))
    assert key not in effective(given) + repr(given)
    assert not any("secrets" in line for line in check(given).notes + check(given).problems)

    broken = Settings(data_dir=tmp_path, secrets=SecretsSettings(key="nonsense"))
    assert any("secrets.key key 1 is not base64" in line for line in check(broken).problems)

    absent = Settings(data_dir=tmp_path, secrets=SecretsSettings(key_file=tmp_path / "mine"))
    assert any("mk8s-central init makes it" in line for line in check(absent).problems)


async def test_central_starts_with_the_key_of_its_init_and_with_no_other(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, listen="127.0.0.1:0", admin_listen="")
    said: list[str] = []
    await install(settings, CHOICE, None, said.append)
    assert f"key of the secrets: created, {tmp_path / 'secret.key'}" in said
    central = Central(settings)
    await central.start()
    await central.stop(grace=0)

    (tmp_path / "secret.key").rename(tmp_path / "aside")
    without = Central(settings)
    with pytest.raises(SealError, match="does not exist"):
        await without.start()
    await without.stop(grace=0)

    (tmp_path / "secret.key").touch(mode=0o600)
    (tmp_path / "secret.key").write_text(new_key())
    wrong = Central(settings)
    with pytest.raises(SealError, match="is sealed by the key"):
        await wrong.start()
    await wrong.stop(grace=0)
