"""Secrets in request URIs: none of them reaches a row, everything else stays as it is."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.audit.redaction import (
    COMMANDS,
    MAX_COMMAND,
    MAX_PIECES,
    REDACTED,
    CommandPatterns,
    redact_tokens,
    redact_uri,
)
from mk8s_proxy.settings.patterns import BadPattern

NAMES = (
    "access-token", "access_token", "accessToken", "api_key", "apikey", "Authorization", "auth",
    "bearer", "client_secret", "code", "credential", "id_token", "join_token", "jwt", "passphrase",
    "passwd", "password", "pwd", "refresh_token", "secret", "session", "sessionid", "sig",
    "signature", "token", "tokens", "X-Amz-Credential", "X-Amz-Security-Token", "X-Amz-Signature",
    "x_api_key", "PRIVATE-KEY", "_csrf_token",
)  # fmt: skip
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


def every_spelling(name: str) -> list[str]:
    first = f"%{ord(name[0]):02x}{name[1:]}"
    every = "".join(f"%{ord(letter):02X}" for letter in name)
    wide = quote("".join(chr(ord(letter) + 0xFEE0) for letter in name))
    return [name, name.upper(), first, every, quote(first), wide, f"{name}[]", f"[{name}]",
            f" {name}+"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_attack_canary_in_the_query(name: str) -> None:
    for spelled in every_spelling(name):
        for template in (
            "/api?%s=canary",
            "/api?a=b&%s=canary&c=d",
            "/api?%s=canary=canary",
            "/api?%s=can;canary",
            "/api?a=b;%s=canary",
            "/api?%s=x;b=canary?c=canary",
            "/api?a?%s=canary",
            "/api#%s=canary",
            "/api?x=1#%s=canary",
        ):
            redacted = redact_uri(template % spelled)
            assert "canary" not in redacted
            assert REDACTED in redacted
    assert redact_uri(f"/api?{name}=canary&limit=5") == f"/api?{name}=REDACTED&limit=5"


@pytest.mark.parametrize(
    "uri",
    [
        "/api/v1/secrets",
        "/api/v1/secrets/token",
        "/api/v1/pods?limit=500",
        "/api/v1/pods?fieldSelector=metadata.name%3Dtoken",
        "/api/v1/pods?labelSelector=owner%3Dme%40example.com",
        "/api/v1/namespaces/a/pods/b/exec?command=password&stdin=true",
        "/api?codec=3&decode=4&continue=abc&resourceVersion=5",
        "/api/v1/namespaces/a/services/http:b:80/proxy/users/a@b.c",
        "/api/v1/namespaces/a/services/b/proxy/x?to=http://c/d@e",
        "/apis/mk8s_aa/eyJ.a",
        "/api?token",
        "/api?",
        "",
    ],
)
def test_other_uris_stay_as_they_are(uri: str) -> None:
    assert redact_uri(uri) == uri


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("https://me:canary@host/api", "https://REDACTED@host/api"),
        ("https://canary@host", "https://REDACTED@host"),
        ("https://me:c@n@ry@host/api?a=b", "https://REDACTED@host/api?a=b"),
        ("/p?to=ftp://me:canary@host/x&b=1", "/p?to=ftp://REDACTED@host/x&b=1"),
        (
            "/p?to=ftp%3A%2F%2Fme%3Acanary%40host%2Fx@",
            "/p?to=ftp%3A%2F%2FREDACTED%40host%2Fx@",
        ),
        ("//a://canary@b/http://canary@c", "//a://REDACTED@b/http://REDACTED@c"),
        ("/p?to=http://K:canary@host", "/p"),  # lower case has another length
    ],
)
def test_attack_password_in_a_url(uri: str, kept: str) -> None:
    uri = uri.replace("K", "\u0130") if kept == "/p" else uri
    assert redact_uri(uri) == kept


def test_attack_password_behind_more_urls_than_are_looked_at() -> None:
    assert "canary" not in redact_uri("/p?a=" + "http://a/" * 50 + "http://me:canary@host/")


def test_attack_token_in_a_path() -> None:
    for token in (JWT, JWT.rpartition(".")[0], "mk8s_rt_0123456789abcdefABCDEF-_"):
        assert redact_uri(f"/auth/sessions/{token}/x?a={token}") == (
            "/auth/sessions/REDACTED/x?a=REDACTED"
        )
        assert redact_tokens(f'no session "{token}"') == 'no session "REDACTED"'


def test_attack_secret_behind_more_parameters_than_are_looked_at() -> None:
    for separator in "&;?":
        uri = "/api?%=" + f"{separator}a=b" * (MAX_PIECES + 9) + f"{separator}token=canary"
        redacted = redact_uri(uri)
        assert "canary" not in redacted
        assert len(redacted) < len(uri)


def test_attack_many_encoded_names() -> None:
    names = "&".join(f"%61{number}=b" for number in range(100))
    redacted = redact_uri(f"/api?{names}&%70assword=canary")
    assert "canary" not in redacted
    assert redacted.startswith("/api?%610=b&%611=b&")
    assert "canary" not in redact_uri("/api?%" + "a" * 100 + "=canary")


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_redaction_takes_any_text(before: str, after: str) -> None:
    assert "c4n4ry" not in redact_uri(f"/api?{before}&password=c4n4ry&{after}")


@given(st.text(st.sampled_from("&;?#=@:/%2fa"), max_size=60))
def test_no_separators_bring_a_secret_out(between: str) -> None:
    assert "c4n4ry" not in redact_uri(f"/p{between}://u:c4n4ry@h?token=c4n4ry#c4n4ry")


# --- exec commands ---


def commands(*patterns: str) -> CommandPatterns:
    chosen = CommandPatterns()
    chosen.use(patterns)
    return chosen


@pytest.mark.parametrize(
    ("pattern", "query", "kept"),
    [
        (r"--password[= ](\S+)", "command=mysql&command=--password%3Dcanary&stdin=true",
         "command=mysql&command=REDACTED&stdin=true"),
        (r"--password[= ](\S+)", "command=mysql&command=--password&command=canary&tty=1",
         "command=mysql&command=--password&command=REDACTED&tty=1"),
        (r"-p\S+", "command=mysql&container=a&command=-pcanary",
         "command=mysql&container=a&command=REDACTED"),
        (r"(?i)TOKEN=(\S+)", "command=sh&command=-c&command=token%3Dcanary+./run",
         "command=sh&command=-c&command=REDACTED"),
        (r"(a)|(b)", "command=b&command=c", "command=REDACTED&command=c"),
        (r"nothing", "command=b&command=c", "command=b&command=c"),
        (r"x*", "command=b&command=c", "command=b&command=c"),
    ],
)  # fmt: skip
def test_commands_are_redacted_by_patterns(pattern: str, query: str, kept: str) -> None:
    assert commands(pattern).redact(query) == kept


def test_arguments_that_no_pattern_was_tried_on_are_not_kept() -> None:
    query = "command=" + "a" * MAX_COMMAND + "&command=canary"
    assert commands("canary").redact(query).endswith("&command=REDACTED")


def test_patterns_are_of_this_process() -> None:
    uri = "/api/v1/namespaces/a/pods/b/exec?command=login&command=canary"
    COMMANDS.use(["login (.*)"])
    try:
        assert redact_uri(uri).endswith("?command=login&command=REDACTED")
    finally:
        COMMANDS.use([])
    assert redact_uri(uri) == uri
    with pytest.raises(BadPattern, match="missing"):
        COMMANDS.use(["("])


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*)*x"])
def test_attack_a_command_that_a_pattern_takes_exponential_time_for(pattern: str) -> None:
    """Each of these took Python's own engine longer than the universe is old."""
    query = "command=" + "a" * (MAX_COMMAND - 1) + "!"
    assert commands(pattern).redact(query) == query


@pytest.mark.parametrize("pattern", [r"(a)\1", "(?=a)", "(?<!a)b"])
def test_what_needs_more_than_linear_time_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        commands(pattern)
