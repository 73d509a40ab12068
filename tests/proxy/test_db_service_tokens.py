"""Service tokens and what an upgrade makes of older logins, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

from mk8s_proxy.db import logins, migrations, policy, roles, service_tokens, tokens, users
from mk8s_proxy.db.engine import Database, parse_database_url
from mk8s_proxy.db.errors import Conflict, NotFound, RefreshReused
from mk8s_proxy.db.logins import NewLogin
from mk8s_proxy.db.service_tokens import NewSecret, NewServiceToken
from tests.support.postgres import PostgresServer

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


async def create(
    database: Database, name: str = "ci", secret: str = "h1", ends: datetime = NOW + 90 * DAY
) -> service_tokens.ServiceTokenRecord:
    await roles.put_role(database, "deployer", [])
    new = NewServiceToken(name, ("deployer",), ("dev-*",), "admin@example.com", "u1")
    return await service_tokens.create(database, new, NewSecret(secret, ends, "mk8s"), NOW)


async def live(database: Database) -> dict[str, datetime]:
    rows = await policy.load_policy(database)
    return {secret.secret_hash: secret.ends_at for secret in rows.service_secrets}


async def test_a_service_token_is_one_login_of_its_own(database: Database) -> None:
    before = await policy.policy_version(database)
    token = await create(database)
    assert (token.name, token.roles, token.clusters) == ("ci", ("deployer",), ("dev-*",))
    assert (token.created_by, token.created_at) == ("admin@example.com", NOW)
    [login] = token.logins
    assert (login.subject, login.source, login.client) == (token.id, "service_token", "mk8s")
    assert login.ends_at == NOW + 90 * DAY
    assert await service_tokens.get_by_id(database, token.id) == token
    assert await service_tokens.get_by_name(database, "ci") == token
    assert await service_tokens.list_all(database) == [token]
    rows = await policy.load_policy(database)
    assert rows.version > before
    assert rows.user_roles["token:ci"] == ("deployer",)
    assert rows.user_clusters == {"token:ci": ("dev-*",)}
    [secret] = rows.service_secrets
    assert (secret.secret_hash, secret.login_id, secret.token_id) == ("h1", login.id, token.id)


async def test_names_of_service_tokens_are_unique_and_roles_must_exist(database: Database) -> None:
    await create(database)
    with pytest.raises(Conflict, match='"ci" already'):
        await create(database, secret="h2")
    unknown = NewServiceToken("other", ("deployer", "nobody"), (), "", "")
    with pytest.raises(NotFound, match='role "nobody"'):
        await service_tokens.create(database, unknown, NewSecret("h3", NOW + DAY), NOW)
    assert [token.name for token in await service_tokens.list_all(database)] == ["ci"]


async def test_there_is_a_bound_on_service_tokens(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_tokens, "MOST", 1)
    await create(sqlite_database)
    with pytest.raises(Conflict, match="1 service tokens already"):
        await create(sqlite_database, "second", "h2")


async def test_rotation_overlaps_two_secrets_and_no_third(database: Database) -> None:
    token = await create(database)
    overlap = timedelta(hours=1)
    second = NewSecret("h2", NOW + 30 * DAY)
    rotated, ended = await service_tokens.rotate(database, token.id, second, overlap, NOW)
    assert ended == []
    assert await live(database) == {"h1": NOW + overlap, "h2": NOW + 30 * DAY}
    assert [login.ends_at for login in rotated.logins] == [NOW + 30 * DAY, NOW + overlap]
    third = NewSecret("h3", NOW + 30 * DAY)
    later = NOW + timedelta(minutes=1)
    _, ended = await service_tokens.rotate(database, token.id, third, overlap, later)
    assert ended == [token.logins[0].id], "the oldest of three ends at once"
    assert await live(database) == {"h2": later + overlap, "h3": NOW + 30 * DAY}
    assert (await logins.get_login(database, ended[0])).ended_why == "rotated"
    fourth = NewSecret("h4", NOW + 30 * DAY)
    _, ended = await service_tokens.rotate(database, token.id, fourth, timedelta(), later)
    assert len(ended) == 2, "without an overlap all others end at once"
    assert list(await live(database)) == ["h4"]


async def test_overlap_never_prolongs_a_secret(database: Database) -> None:
    soon = NOW + timedelta(hours=5)  # later than this test runs
    token = await create(database, ends=soon)
    await service_tokens.rotate(database, token.id, NewSecret("h2", NOW + DAY), DAY, NOW)
    assert (await live(database))["h1"] == soon


async def test_revoked_service_token_is_forgotten_and_its_logins_say_why(
    database: Database,
) -> None:
    token = await create(database)
    ended = await service_tokens.revoke(database, token.id, NOW)
    assert ended == [token.logins[0].id]
    assert (await logins.get_login(database, ended[0])).ended_why == "revoked"
    assert await live(database) == {}
    rows = await policy.load_policy(database)
    assert "token:ci" not in rows.user_roles
    for gone in (
        service_tokens.get_by_name(database, "ci"),
        service_tokens.revoke(database, "x", NOW),
    ):
        with pytest.raises(NotFound):
            await gone
    await create(database, secret="h2")  # the name is free again


async def test_service_tokens_of_one_creator_can_be_revoked_together(database: Database) -> None:
    first, second = await create(database), await create(database, "cd", "h2")
    assert await service_tokens.revoke_of(database, "somebody else", NOW) == []
    ended = await service_tokens.revoke_of(database, "u1", NOW)
    assert set(ended) == {first.logins[0].id, second.logins[0].id}
    assert await service_tokens.list_all(database) == []


async def test_expired_secrets_are_not_loaded(database: Database) -> None:
    token = await create(database, ends=NOW - DAY)
    assert await live(database) == {}
    assert (await service_tokens.get_by_id(database, token.id)).logins == token.logins
    rotated, ended = await service_tokens.rotate(
        database, token.id, NewSecret("h2", NOW + DAY), DAY, NOW
    )
    assert (list(await live(database)), ended) == (["h2"], [])
    assert len(rotated.logins) == 2


async def test_attack_a_role_cannot_be_deleted_under_a_service_token(database: Database) -> None:
    token = await create(database)
    with pytest.raises(Conflict, match=r"service token\(s\) ci; revoke"):
        await roles.delete_role(database, "deployer")
    await service_tokens.revoke(database, token.id, NOW)
    await roles.delete_role(database, "deployer")


async def test_last_use_is_written_and_never_goes_back(database: Database) -> None:
    token = await create(database)
    later = NOW + timedelta(minutes=3)
    await logins.note_seen(database, [token.logins[0].id, "unknown"], later)
    await logins.note_seen(database, [token.logins[0].id], NOW)
    await logins.note_seen(database, [], NOW)
    assert (await service_tokens.get_by_name(database, "ci")).logins[0].last_seen == later


async def test_a_change_of_the_password_keeps_one_login(database: Database) -> None:
    user = await users.create_user(database, "x@y", "", "old", must_change=True)
    for name in ("a", "b"):
        await tokens.open_login(database, NewLogin(name, user.id, NOW + DAY), name, NOW)
    with pytest.raises(Conflict, match="somebody else"):
        await users.change_password(database, user.id, "other", "new", NOW)
    ended = await users.change_password(database, user.id, "old", "new", NOW, keep="a")
    assert ended == ["b"]
    after = await users.get_by_id(database, user.id)
    assert (after.password_hash, after.must_change_password) == ("new", False)
    assert after.token_epoch == user.token_epoch, "the login that stays keeps its tokens"
    assert (await tokens.use_refresh(database, "a", NOW)).login_id == "a"
    with pytest.raises(RefreshReused) as refused:
        await tokens.use_refresh(database, "b", NOW)
    assert refused.value.ended_before == "password changed"


async def test_logins_go_with_their_user(database: Database) -> None:
    user = await users.create_user(database, "x@y", "", "old")
    await tokens.open_login(database, NewLogin("a", user.id, NOW + DAY), "a", NOW)
    await users.delete_user(database, user.id)
    with pytest.raises(NotFound):
        await tokens.use_refresh(database, "a", NOW)
    with pytest.raises(NotFound):
        await logins.get_login(database, "a")


@pytest.fixture(params=["sqlite", "postgresql"])
def before_logins(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Engine]]:
    """A database as the version before left it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('old')}/central.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.url(server.create())
    parsed = parse_database_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    engine = create_engine(parsed.set(drivername="sqlite") if sqlite else parsed)
    with engine.begin() as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
    yield url, engine
    engine.dispose()


async def test_upgrade_logs_nobody_out(before_logins: tuple[str, Engine]) -> None:
    url, engine = before_logins
    with engine.begin() as connection:
        moments = {
            "now": NOW.replace(tzinfo=None) if url.startswith("sqlite") else NOW,
            "later": (NOW + DAY).replace(tzinfo=None) if url.startswith("sqlite") else NOW + DAY,
        }
        user = "INSERT INTO users VALUES ('u1', 'x@y', '', 'h', false, 0, :now)"
        connection.execute(text(user), moments)
        token = (
            "INSERT INTO refresh_tokens"
            " (id, family_id, user_id, token_hash, created_at, expires_at, used_at, revoked_at)"
            " VALUES (:id, :family, 'u1', :id, :now, :later, "
        )
        for row, name, rest in (
            ("t1", "a", ":now, NULL)"), ("t2", "a", "NULL, NULL)"), ("t3", "b", "NULL, :now)"),
        ):  # fmt: skip
            connection.execute(text(token + rest), {"id": row, "family": name, **moments})
    assert migrations.upgrade(url)[0] == "0004"
    database = Database(url)
    await database.start()
    try:
        assert (await tokens.use_refresh(database, "t2", NOW)).expires_at == NOW + DAY
        login = await logins.get_login(database, "a")
        assert (login.subject, login.source, login.ended_at) == ("u1", "password", None)
        with pytest.raises(RefreshReused) as refused:
            await tokens.use_refresh(database, "t3", NOW)
        assert refused.value.ended_before == "unknown"
        assert not (await users.get_by_id(database, "u1")).must_change_password
    finally:
        await database.close()
