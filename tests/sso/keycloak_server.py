"""How Keycloak is started: by `build.py` once for each version, by `keycloak.py` for the tests.

Needs nothing but the standard library: `build.py` runs before there is a virtual environment.
"""

from pathlib import Path

from tests.sso import keeper
from tests.support.processes import own_port, private_environment

VERSION = "26.7.3"
READY = "Listening on:"
JAVA = (
    "-Xms64m -Xmx384m -XX:MaxMetaspaceSize=256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "
    "-XX:+ExitOnOutOfMemoryError -Dfile.encoding=UTF-8 -Djava.security.egd=file:/dev/urandom"
)
"""Little memory, and compiled quickly rather than well: it lives for a minute."""
ADMIN = "admin"
PASSWORD = "a long password of Keycloak"


def command(providers: Path, *options: str) -> list[str | Path]:
    """How to start it: everything in memory, on loopback."""
    program = providers / f"keycloak-{VERSION}" / "bin/kc.sh"
    return [program, "start-dev", "--db=dev-mem", "--http-host=127.0.0.1", *options]


def environment(home: Path, password: str) -> dict[str, str]:
    """What it runs with; the administrator's password is the session's own."""
    return private_environment(
        home,
        JAVA_OPTS=JAVA,
        KC_BOOTSTRAP_ADMIN_USERNAME=ADMIN,
        KC_BOOTSTRAP_ADMIN_PASSWORD=password,
    )


def start_once(providers: Path, scratch: Path) -> None:
    """Start and end it, so that it adapts its code to these options."""
    words = command(providers, f"--http-port={own_port()}")
    with keeper.kept(
        scratch / "keycloak.log", words, environment(scratch, "once"), READY, seconds=300
    ):
        pass
