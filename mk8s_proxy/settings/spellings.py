"""Keys of `central.yaml` that say a setting in other words, or something that central has not.

Many servers' files have sections `server`, `database`, `auth` and `tls`. Here a value that has a
meaning for central gets it, and any other is refused by a line that says what to write. Nothing is
read and then ignored.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mk8s_agent.wire.setting_values import Unusable, port, seconds, switch
from mk8s_agent.wire.settings import Reader
from mk8s_proxy.settings.model import Settings

DRIVER: Final = "database.driver"
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite3": "sqlite",
    "postgres": "postgresql",
    "postgresql": "postgresql",
}


def driver_problem(driver: object, settings: Settings) -> str:
    """What is wrong between a driver that the file names and the URL in effect, "" for nothing."""
    if driver is None or (driver == "sqlite") == settings.is_sqlite:
        return ""
    if settings.is_sqlite:
        return f"{DRIVER}: PostgreSQL needs database.url: postgres://USER:PASSWORD@HOST/DATABASE"
    return f"{DRIVER}: sqlite, but the database's URL is not SQLite's: mend one of the two"


def _http_port(value: object) -> Mapping[str, object]:
    return {"listen": f"0.0.0.0:{port(value)}"}


def _driver(value: object) -> Mapping[str, object]:
    kind = _DRIVERS.get(value) if isinstance(value, str) else None
    if kind is None:
        raise Unusable("must be sqlite or postgres")
    return {DRIVER: kind}


def _url(value: object) -> Mapping[str, object]:
    return {"database_url": value}


def _token_expiry(value: object) -> Mapping[str, object]:
    return {"tokens.refresh_seconds": seconds(value)}


def _tls_enabled(value: object) -> Mapping[str, object]:
    if not switch(value):
        raise Unusable(
            "central speaks TLS only, since tokens and certificates prove who connects: delete "
            "this line; without tls.certificate central's own CA makes a certificate"
        )
    return {}


def _certificate(value: object) -> Mapping[str, object]:
    return {"tls.certificate": value}


def _key(value: object) -> Mapping[str, object]:
    return {"tls.key": value}


SPELLINGS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        "server.http_port": _http_port,
        DRIVER: _driver,
        "database.url": _url,
        "auth.token_expiry": _token_expiry,
        "tls.enabled": _tls_enabled,
        "tls.cert_file": _certificate,
        "tls.key_file": _key,
    }
)
"""Other keys that mean settings."""
MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "server.http_port": "`listen: 0.0.0.0:PORT`",
        DRIVER: "sqlite or postgres; must fit the database's URL",
        "database.url": "`database_url`",
        "auth.token_expiry": "`tokens.refresh_seconds`, with units: 24h, 90m, 7d",
        "tls.enabled": "true; there is no central without TLS, so that false is refused",
        "tls.cert_file": "`tls.certificate`",
        "tls.key_file": "`tls.key`",
    }
)
"""What they mean, for the documentation."""
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "server.grpc_port": (
            "agents connect to the same port as clients, and not by gRPC: delete this line, "
            "or give agents an address of their own: tunnel_listen: 0.0.0.0:9090"
        ),
        "auth.jwt_secret": (
            "tokens are signed with RS256 keys that mk8s-central init makes and central renews, "
            "not with a shared secret: delete this line"
        ),
    }
)
"""Keys that have no meaning here, and what to do instead."""
