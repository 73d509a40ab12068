"""Settings: defaults, file, environment over it, and one clear line for each mistake."""

import contextlib
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_agent.wire.setting_values import Unusable, seconds
from mk8s_agent.wire.settings import SettingsError
from mk8s_proxy.settings.load import environment_variables, load_settings
from mk8s_proxy.settings.model import (
    Settings,
    TlsSettings,
    inherited_socket,
    parse_address,
)

Written = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str) -> Path:
        path = tmp_path / "central.yaml"
        path.write_text(text)
        return path

    return write


def problems(path: Path | None, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as refusal:
        load_settings(path, environment or {})
    assert all("\n" not in line for line in refusal.value.problems)
    return refusal.value.problems


def test_every_value_has_a_default(tmp_path: Path) -> None:
    settings = load_settings(None, {"MK8S_DATA_DIR": str(tmp_path)})

    assert settings.listen == "0.0.0.0:8443"
    assert settings.public_url == "https://localhost:8443"
    assert settings.database_url == f"sqlite:///{tmp_path}/central.db"
    assert settings.journal_path == tmp_path / "audit" / "journal.jsonl"
    assert settings.tokens.access_seconds == 900
    assert settings.is_sqlite
    assert settings == Settings(data_dir=tmp_path)


def test_environment_goes_over_the_file(written: Written) -> None:
    path = written(
        """
        listen: 127.0.0.1:9000
        public_url: https://mk8s.example.com/
        tokens: {access_seconds: 600, refresh_seconds: 7200}
        policy:
        tls: {certificate: ~/a.pem, key: /b.pem}
        """
    )

    settings = load_settings(path, {"MK8S_TOKENS_ACCESS_SECONDS": "300", "MK8S_TLS_KEY": "/c.pem"})

    assert settings.listen == "127.0.0.1:9000"
    assert settings.public_url == "https://mk8s.example.com"
    assert settings.public_host == "mk8s.example.com"
    assert (settings.tokens.access_seconds, settings.tokens.refresh_seconds) == (300, 7200)
    assert settings.policy.poll_seconds == 1.0
    assert settings.tls == TlsSettings(Path.home() / "a.pem", Path("/c.pem"))


def test_an_empty_value_is_the_default_of_text_and_paths() -> None:
    settings = load_settings(None, {"MK8S_DOMAIN": "", "MK8S_TLS_KEY": "", "MK8S_PUBLIC_URL": ""})

    assert settings == load_settings(None, {})
    assert problems(None, {"MK8S_POLICY_POLL_SECONDS": ""}) == [
        "MK8S_POLICY_POLL_SECONDS: must not be empty"
    ]


def test_an_empty_file_is_all_defaults(written: Written) -> None:
    assert load_settings(written("# nothing yet\n"), {}) == load_settings(None, {})


def test_every_setting_can_come_from_the_environment() -> None:
    variables = environment_variables()

    assert variables["listen"] == "MK8S_LISTEN"
    assert variables["limits.streams_per_connection"] == "MK8S_LIMITS_STREAMS_PER_CONNECTION"
    assert len(set(variables.values())) == len(variables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listn: x\n", ':1: unknown setting "listn" (did you mean "listen"?)'),
        (
            "tokens:\n  acces_seconds: 5\n",
            ':2: unknown setting "tokens.acces_seconds" (did you mean "tokens.access_seconds"?)',
        ),
        ("limit: {}\n", ':1: unknown setting "limit" (did you mean "limits"?)'),
        ("zzz: 1\n", ':1: unknown setting "zzz"'),
        ("tokens: 5\n", ":1: tokens: must be a mapping of settings"),
        ("tokens:\n  access_seconds: 5\n", ":2: tokens.access_seconds: must be at least 60"),
        ("tokens: {access_seconds: 1.5}\n", ":1: tokens.access_seconds: must be a whole number"),
        ("tokens: {access_seconds: true}\n", ":1: tokens.access_seconds: must be a whole number"),
        ("tokens: {access_seconds: [1]}\n", ":1: tokens.access_seconds: must be a whole number"),
        ("tokens: {access_seconds: x}\n", ":1: tokens.access_seconds: must be a whole number"),
        ("tokens: {access_seconds: .inf}\n", ":1: tokens.access_seconds: must be a whole number"),
        ("tokens: {access_seconds: 9999}\n", ":1: tokens.access_seconds: must be at most 3600"),
        ("policy: {poll_seconds: .nan}\n", ":1: policy.poll_seconds: must be a number"),
        ("policy: {poll_seconds: }\n", ":1: policy.poll_seconds: must not be empty"),
        ("domain: 7\n", ":1: domain: must be text (put it in quotes)"),
        ("- listen\n", ": the file must be a mapping of settings"),
        ("listen: x\nlisten: y\n", ':2:1: the key "listen" is there twice'),
        ("a: [1\n", ":2:1: did not find expected ',' or ']'"),
        ("a: {<<: {b: 1}}\n", ':1:5: merge keys ("<<") are not supported'),
        ("? [a]\n: 1\n", ":1:3: a key must be a word"),
        ("a: !!python/object:os.system {}\n", ":1:4: could not determine a constructor for the"),
        ("a: 1\n---\nb: 2\n", ":2:1: but found another document"),
        ("a: \x07\n", ": not YAML:"),
        ("a: 2026-99-99\n", ": not YAML:"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_its_place(
    written: Written, text: str, expected: str
) -> None:
    path = written(text)

    (line,) = problems(path)

    assert line.startswith(f"{path}{expected}")


def test_all_mistakes_are_told_at_once(written: Written) -> None:
    path = written("listn: 1\ntokens: {access_seconds: 1}\n")

    assert len(problems(path, {"MK8S_JOIN_TOKEN_SECONDS": "soon"})) == 3


def test_unreadable_files_are_one_line_each(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == [
        f"cannot read {tmp_path / 'none.yaml'}: No such file or directory"
    ]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert problems(binary) == [f"{binary} is not UTF-8 text"]
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (16 * 1024 * 1024 + 1))
    assert problems(huge) == [f"{huge} is larger than 16 MiB"]


def test_alias_bomb_and_deep_nesting_are_refused(written: Written) -> None:
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert "too many values" in problems(written(bomb))[0]
    assert "nested too deep" in problems(written("[" * 40 + "]" * 40))[0]
    assert "nested too deep" in problems(written("a: &a [*a]\n"))[0]


def test_misspelt_variables_are_refused_and_those_of_other_programs_ignored() -> None:
    assert problems(None, {"MK8S_LISTN": "x"}) == [
        'unknown environment variable MK8S_LISTN (did you mean "MK8S_LISTEN"?)'
    ]
    others = {"MK8S_AGENT_TOKENS": "2", "MK8S_CENTRAL": "x", "MK8S_CONFIG": "y", "LISTEN": "z"}
    assert load_settings(None, others) == load_settings(None, {})


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LISTEN": "8443"}, 'listen: "8443" is not an address like 127.0.0.1:8443'),
        ({"LISTEN": "::1:8443"}, 'listen: "::1:8443": put an IPv6 address in brackets'),
        ({"LISTEN": "h:70000"}, 'listen: "h:70000" is not an address'),
        ({"TUNNEL_LISTEN": "x"}, "tunnel_listen:"),
        ({"PUBLIC_URL": "http://x"}, 'public_url: "http://x" is not like https://'),
        ({"PUBLIC_URL": "https://u:p@x"}, "public_url:"),
        ({"PUBLIC_URL": "https://[x"}, "public_url:"),
        ({"PUBLIC_URL": "https://x/base"}, "public_url: leave out everything behind"),
        ({"DOMAIN": "*.x"}, 'domain: "*.x" is not a DNS name'),
        ({"TLS_KEY": "/k"}, "tls: set both certificate and key, or neither"),
        ({"POLICY_POLL_SECONDS": "5", "POLICY_LEASE_SECONDS": "6"}, "policy: lease_seconds must"),
        ({"LOG_LEVEL": "loud"}, 'log.level: "loud"'),
        ({"LOG_FORMAT": "xml"}, 'log.format: "xml"'),
    ],
)
def test_values_that_cannot_work_are_refused(variables: dict[str, str], expected: str) -> None:
    (line,) = problems(None, {f"MK8S_{name}": value for name, value in variables.items()})

    assert line.startswith(expected)


def test_settings_do_not_show_the_database_password() -> None:
    settings = load_settings(None, {"MK8S_DATABASE_URL": "postgresql://u:hunter2@db/mk8s"})

    assert "hunter2" not in repr(settings)
    assert not settings.is_sqlite


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("[::]:0", ("::", 0)),
        ("central.example:443", ("central.example", 443)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


def test_an_inherited_socket_is_where_it_is_bound() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        text = f"fd://{bound.fileno()}"
        assert parse_address(text) == bound.getsockname()
        assert inherited_socket(text) == bound.fileno()
        assert inherited_socket("127.0.0.1:1") is None
        settings = load_settings(None, {"MK8S_LISTEN": text})
        assert settings.public_url == f"https://localhost:{bound.getsockname()[1]}"
        (line,) = problems(None, {"MK8S_ADMIN_LISTEN": text})
        assert "can be listen only" in line


@pytest.mark.parametrize("number", ["", "x", "-1", "999999", "1e3", "0999999999"])
def test_what_is_no_inherited_socket_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="is not a TCP socket"):
        parse_address(f"fd://{number}")


def test_a_file_is_no_inherited_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as opened, pytest.raises(ValueError, match="is not a TCP"):
        parse_address(f"fd://{opened.fileno()}")


@given(st.text(max_size=30))
def test_no_address_raises_anything_but_value_error(text: str) -> None:
    try:
        host, port = parse_address(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535


def test_ordinary_users_have_their_own_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert Settings().data_dir == Path.home() / ".local/share/mk8s-central"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Settings().data_dir == Path("/var/lib/mk8s")


def test_lists_of_patterns(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text('audit:\n  redact_commands: ["-p(.+)", "token"]\n')
    assert load_settings(file, {}).audit.redact_commands == ("-p(.+)", "token")
    lines = {"MK8S_AUDIT_REDACT_COMMANDS": "a b\n\nc\n"}
    assert load_settings(None, lines).audit.redact_commands == ("a b", "c")
    assert load_settings(None, {"MK8S_AUDIT_REDACT_COMMANDS": ""}).audit.redact_commands == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "must be a list"),
        ("5", "must be a list"),
        ("[5]", "must be a list of texts"),
        ('["("]', "audit.redact_commands"),
        ("[" + "a, " * 65 + "]", "at most 64 patterns"),
    ],
)
def test_lists_of_patterns_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"audit:\n  redact_commands: {text}\n")
    with pytest.raises(SettingsError, match=says):
        load_settings(file, {})


def test_public_health_is_on_or_off(written: Written) -> None:
    (line,) = problems(written("public_health: maybe\n"))
    assert line.endswith('public_health: "maybe" is neither on nor off')


DESCRIBED = """
server:
  http_port: 8080
database:
  driver: postgres
  url: "postgres://mk8s:${PASSWORD}@db.internal:5432/mk8s"
auth:
  token_expiry: 24h
tls:
  enabled: true
  cert_file: /etc/mk8s/tls.crt
  key_file: /etc/mk8s/tls.key
"""


def test_keys_of_other_words_mean_settings(written: Written) -> None:
    settings = load_settings(written(DESCRIBED), {"PASSWORD": "a$b"})
    assert settings.listen == "0.0.0.0:8080"
    assert settings.public_url == "https://localhost:8080"
    assert settings.database_url == "postgres://mk8s:a$b@db.internal:5432/mk8s"
    assert settings.tokens.refresh_seconds == 86400
    assert settings.tls == TlsSettings(Path("/etc/mk8s/tls.crt"), Path("/etc/mk8s/tls.key"))
    assert settings == load_settings(
        None,
        {
            "MK8S_LISTEN": "0.0.0.0:8080",
            "MK8S_DATABASE_URL": "postgres://mk8s:a$b@db.internal:5432/mk8s",
            "MK8S_TOKENS_REFRESH_SECONDS": "86400",
            "MK8S_TLS_CERTIFICATE": "/etc/mk8s/tls.crt",
            "MK8S_TLS_KEY": "/etc/mk8s/tls.key",
        },
    )


def test_variables_of_the_environment_go_over_other_words_too(written: Written) -> None:
    settings = load_settings(written("server: {http_port: 1}\n"), {"MK8S_LISTEN": "[::1]:2"})
    assert settings.listen == "[::1]:2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server: {grpc_port: 9090}", "server.grpc_port: agents connect to the same port as"),
        ("auth: {jwt_secret: '${ABSENT}'}", "auth.jwt_secret: tokens are signed with RS256 keys"),
        ("tls: {enabled: false}", "tls.enabled: central speaks TLS only"),
        ("tls: {enabled: 'off'}", "tls.enabled: central speaks TLS only"),
        ("tls: {enabled: perhaps}", "tls.enabled: must be true or false"),
        ("tls: {enabled: }", "tls.enabled: must be true or false"),
        ("server: {http_port: 0}", "server.http_port: must be a port, 1 to 65535"),
        ("server: {http_port: 65536}", "server.http_port: must be a port, 1 to 65535"),
        ("server: {http_port: true}", "server.http_port: must be a port, 1 to 65535"),
        ("server: {http_port: ':80'}", "server.http_port: must be a port, 1 to 65535"),
        ("server: 8080", "server: must be a mapping of settings"),
        ("server: {port: 1}", 'unknown setting "server.port"'),
        ("database: {driver: mysql}", "database.driver: must be sqlite or postgres"),
        ("database: {driver: [a]}", "database.driver: must be sqlite or postgres"),
        ("database: {url: 5}", "database.url: database_url: must be text"),
        ("auth: {token_expiry: 86400}", "auth.token_expiry: must be a time with its unit"),
        ("auth: {token_expiry: ''}", "auth.token_expiry: must be a time with its unit"),
        ("auth: {token_expiry: 24}", "auth.token_expiry: must be a time with its unit"),
        ("auth: {token_expiry: 10s}", "tokens.refresh_seconds: must be at least 300"),
        ("auth: {token_expiry: 91d}", "tokens.refresh_seconds: must be at most 7776000"),
        ("listen: a:1\nserver: {http_port: 1}", "server.http_port: listen says the same: keep one"),
        ("server: {http_port: 1}\nlisten: a:1", "listen: server.http_port says the same: keep"),
        ("tls: {key: a, key_file: a}", "tls.key_file: tls.key says the same: keep one of the two"),
        ("domain: a${ABSENT}", "domain: the environment variable ABSENT is not set"),
        ("workers: ${ABSENT}", "workers: the environment variable ABSENT is not set"),
        ("domain: ${A", 'domain: "${" must begin a variable'),
        ("domain: ${A:-b}", 'domain: "${" must begin a variable'),
        ("domain: ${}", 'domain: "${" must begin a variable'),
    ],
)
def test_what_has_no_meaning_here_is_one_line_that_says_what_to_write(
    written: Written, text: str, expected: str
) -> None:
    path = written(text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:")
    assert expected in problem


def test_a_driver_and_a_url_of_two_databases(written: Written) -> None:
    assert "postgres://USER" in problems(written("database: {driver: postgres}\n"))[0]
    both = written("database: {driver: sqlite3, url: 'postgresql://a@b/c'}\n")
    assert "mend one of the two" in problems(both)[0]
    fitting = load_settings(both, {"MK8S_DATABASE_URL": "sqlite:////a/b.db"})
    assert fitting.is_sqlite


def test_variables_in_values(written: Written) -> None:
    path = written(
        "listen: ${HOST}:${PORT}\nworkers: ${N}\nheader_underscores: ${ON}\ndomain: ${EMPTY}\n"
        "audit: {redact_commands: ['a$${b', '${HOST}', 'end$'], max_bytes: 2097152}\n"
    )
    given = {"HOST": "127.0.0.1", "PORT": "9", "N": "2", "ON": "true", "EMPTY": ""}
    settings = load_settings(path, given)
    assert (settings.listen, settings.workers) == ("127.0.0.1:9", 2)
    assert settings.header_underscores is True
    assert settings.domain == ""
    assert settings.audit.redact_commands == ("a${b", "127.0.0.1", "end$")
    assert load_settings(None, {"MK8S_DOMAIN": "a"}).domain == "a"


def test_attack_a_variable_is_not_read_twice(written: Written) -> None:
    """What a variable holds is text: it names no other one."""
    path = written("database_url: ${A}\n")
    assert load_settings(path, {"A": "sqlite:///${B}", "B": "x"}).database_url == "sqlite:///${B}"


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("OFF", False), ("0", False)])
def test_switches_in_the_environment(text: str, expected: bool) -> None:
    """The text "false" is no true one."""
    settings = load_settings(None, {"MK8S_HEADER_UNDERSCORES": text, "MK8S_AUDIT_DATABASE": text})
    assert settings.header_underscores is expected
    assert settings.audit.database is expected


@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_switches_that_are_none(text: str) -> None:
    assert problems(None, {"MK8S_HEADER_UNDERSCORES": text})


@pytest.mark.parametrize(
    ("text", "expected"), [("24h", 86400), ("1h30m", 5400), ("7d", 604800), ("900s", 900)]
)
def test_times_with_units(text: str, expected: int) -> None:
    assert seconds(text) == expected


@given(st.one_of(st.text(max_size=8), st.text("0123456789dhms.", max_size=8)))
def test_a_time_is_a_number_or_refused(text: str) -> None:
    is_time = re.fullmatch("([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?", text) and text
    with contextlib.nullcontext() if is_time else pytest.raises(Unusable):
        assert seconds(text) >= 0
