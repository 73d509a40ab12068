"""The running API against its own description: schemathesis sends what that allows and forbids."""

import asyncio
import shutil
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import load_all_checks, not_a_server_error

from mk8s_proxy.api.application import DOCUMENT
from mk8s_proxy.db import clusters, users
from mk8s_proxy.db.engine import Database
from mk8s_proxy.identity.access_token import mint
from mk8s_proxy.identity.authorities import AuthorityKeeper, ensure_authorities
from mk8s_proxy.settings.model import LimitSettings
from tests.support.databases import VAULT
from tests.support.management_api import PUBLIC_URL, Central

FLOOD = 1_000_000
DEEP = settings().max_examples > 1000
EXAMPLES = 300 if DEEP else 5
"""Of each operation, right ones and wrong ones, beside those that the description has."""
T = TypeVar("T")

load_all_checks()
schema = schemathesis.openapi.from_dict(DOCUMENT)
# Most examples are refused for what JSON Schema cannot say: that no such role exists, or that a
# cursor is none of ours. That what is right is taken is what the other tests are for.
schema.config.checks.positive_data_acceptance.enabled = False
# Of ten thousand entries and one more, the length is what is refused.
_rejection = schema.config.checks.negative_data_rejection
_rejection.expected_statuses = [*_rejection.expected_statuses, "413"]
# The token is always the test's: a request that is wrong only by lacking one would not lack it.
schema.config.generation.with_security_parameters = False
# Each boundary of each field: a thousand calls, which are for the deep profile.
schema.config.phases.coverage.enabled = DEEP


class Served:
    """Central in a thread of its own, as schemathesis calls it by blocking sockets."""

    def __init__(self, url: str, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.central = self.run(self._start(Database(url), folder))
        self.url = str(self.central.client.make_url(""))
        self.session = requests.Session()
        self._admin = self.run(users.get_by_email(self.central.database, "admin@example.com"))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self, database: Database, folder: Path) -> Central:
        database.vault = VAULT
        await database.start()
        made, _ = await ensure_authorities(database)
        limits = LimitSettings(api_per_identity=FLOOD, api_per_address=FLOOD)
        central = await Central.start(database, folder, limits=limits)
        keeper = central.context.authorities = AuthorityKeeper(made)
        central.feed.on_change(lambda feed: keeper.take(feed.rows.authorities))  # as `app` does
        await clusters.create_cluster(database, "prod", {"env": "prod"})
        await central.feed.refresh()
        return central

    def token(self) -> str:
        """A fresh one: the last call may have ended its own."""
        keys, now = self.central.keys, self.central.now
        return mint(keys, user=self._admin, cluster=None, issuer=PUBLIC_URL, lifetime=60, now=now)[
            0
        ]

    def close(self) -> None:
        self.session.close()
        self.run(self.central.close())
        self.run(self.central.database.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture(scope="module")
def served(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("schemathesis")
    file = shutil.copy(migrated_sqlite, folder / "central.db")
    served = Served(f"sqlite:///{file}", folder)
    yield served
    served.close()


@schema.parametrize()
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_attack_the_api_does_what_its_description_says(
    case: schemathesis.Case, served: Served
) -> None:
    headers = {"Authorization": f"Bearer {served.token()}", "x-mk8s-source-ip": "192.0.2.1"}
    response = case.call(base_url=served.url, headers=headers, session=served.session)
    # This central runs no commands, which is a 501 as described.
    excluded = [not_a_server_error] if response.status_code == 501 else []
    case.validate_response(response, excluded_checks=excluded)
