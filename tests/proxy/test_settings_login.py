"""The `login:` section: who vouches for people and jobs, and what of it cannot work."""

import json
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.wire.settings import SettingsError
from mk8s_proxy.process import check_config
from mk8s_proxy.settings.load import load_settings
from mk8s_proxy.settings.login import (
    MOST_ISSUERS,
    MOST_RULES,
    FederationSettings,
    GroupRule,
    IssuerSettings,
    LoginSettings,
)
from mk8s_proxy.settings.model import Settings

EXAMPLE = """
login:
  passwords: on
  impersonate_groups: ["acme:*"]
  issuers:
    - name: acme
      title: Acme
      issuer: https://sso.acme.example/realms/main
      client_id: mk8s
      client_secret: ${ACME_SECRET}
      scopes: [openid, email, profile, offline_access]
      user_claim: email
      groups_claim: groups
      groups: [{match: "k8s-*", to: "*"}]
      ca_file: /etc/ca.pem
  federation:
    - {name: github, issuer: "https://ci.example", audience: mk8s, jwks_file: /etc/jwks.json}
"""


def test_the_section_as_people_write_it(tmp_path: Path) -> None:
    file = tmp_path / "central.yaml"
    file.write_text(EXAMPLE)

    login = load_settings(file, {"ACME_SECRET": "hush"}).login

    assert login == LoginSettings(
        impersonate_groups=("acme:*",),
        issuers=(
            IssuerSettings(
                "acme",
                "https://sso.acme.example/realms/main",
                "mk8s",
                client_secret="hush",
                title="Acme",
                groups=(GroupRule("k8s-*", "*"),),
                ca_file=Path("/etc/ca.pem"),
            ),
        ),
        federation=(
            FederationSettings(
                "github", "https://ci.example", "mk8s", jwks_file=Path("/etc/jwks.json")
            ),
        ),
    )
    assert login.issuers[0].shown == "Acme"
    assert IssuerSettings("a", "https://a", "b").shown == "a"


def test_a_clients_secret_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "central.yaml"
    file.write_text(EXAMPLE)
    settings = load_settings(file, {"ACME_SECRET": "hush", "MK8S_DATA_DIR": str(tmp_path)})

    assert "hush" not in repr(settings)
    shown = check_config.effective(settings)
    assert "hush" not in shown
    assert "client_secret: (secret)" in shown
    problems = check_config.check(settings).problems
    assert "login: acme: ca_file: /etc/ca.pem is no file" in problems


def issuer(**more: Any) -> dict[str, Any]:
    return {"name": "acme", "issuer": "https://sso.example", "client_id": "mk8s"} | more


def problems(**login: Any) -> list[str]:
    variables = {
        f"MK8S_LOGIN_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in login.items()
    }
    with pytest.raises(SettingsError) as refusal:
        load_settings(None, variables)
    return refusal.value.problems


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"name": "Acme"}, '"Acme" is not a name'),
        ({"name": "a:b"}, '"a:b" is not a name'),
        ({"name": ""}, '"" is not a name'),
        ({"name": "system"}, '"system" has a meaning already'),
        ({"name": "mk8s"}, '"mk8s" has a meaning already'),
        ({"name": "federated"}, '"federated" has a meaning already'),
        ({"issuer": "http://sso.example"}, "must begin with https://"),
        ({"issuer": "http://sso.example", "allow_http": True}, "must begin with https://"),
        ({"issuer": "http://127.0.0.1:1"}, "must begin with https://"),
        ({"issuer": "ftp://sso.example"}, "must begin with https://"),
        ({"issuer": "https://"}, "is not like https://sso.example.com"),
        ({"issuer": "https://a:0"}, "is not like https://sso.example.com"),
        ({"issuer": "https://a b"}, "is not like https://sso.example.com"),
        ({"issuer": "https://ä"}, "is not like https://sso.example.com"),
        ({"issuer": "https://[a"}, "is not a URL"),
        ({"issuer": "https://u:p@a"}, "leave out a user"),
        ({"issuer": "https://a?x"}, "leave out a user, a query"),
        ({"issuer": "https://a#x"}, "leave out a user, a query"),
        ({"scopes": ["email"]}, "scopes: openid must be one of them"),
        ({"scopes": ["openid", "a b"]}, 'scopes: "a b" is no scope'),
        ({"parameters": ["prompt"]}, 'parameters: "prompt" is not like prompt=consent'),
        ({"parameters": ["prompt=a\n"]}, "is not like prompt=consent"),
        ({"parameters": ["state=mine"]}, 'parameters: "state=mine" is not like prompt=consent'),
        ({"parameters": ["request_uri=https://x"]}, "or is not free"),
        ({"client_id": ""}, "client_id and user_claim must not be empty"),
        ({"user_claim": ""}, "client_id and user_claim must not be empty"),
        ({"title": "a\u202eb"}, "title: must be one line"),
        ({"groups": [{}] * (MOST_RULES + 1)}, f"groups: at most {MOST_RULES} rules"),
        ({"groups": [{"match": "*a*"}]}, 'groups: "*a*" to "*": at most one "*"'),
        ({"groups": [{"to": "**"}]}, 'at most one "*"'),
        ({"groups": [{"match": "a"}]}, '"*" has a "*", but "a" has none'),
        ({"groups": [{"match": "a", "to": ""}]}, "both must be text"),
        ({"groups": [{"match": "a", "to": "b\u0085"}]}, "both must be text"),
        ({"groups": [{"match": "a", "to": " b"}]}, "both must be text"),
        ({"groups": [{}], "groups_claim": ""}, "a rule without a claim"),
    ],
)
def test_issuers_that_cannot_work_are_refused(more: dict[str, Any], says: str) -> None:
    (line,) = problems(issuers=[issuer(**more)])

    assert line.startswith("login.issuers: ")
    assert says in line


def test_issuers_have_names_of_their_own() -> None:
    assert problems(issuers=[issuer(), issuer()]) == ['login.issuers: "acme" is there twice']
    many = [issuer(name=f"a{number}") for number in range(MOST_ISSUERS + 1)]
    assert problems(issuers=many) == [f"login.issuers: at most {MOST_ISSUERS}"]
    jobs = {"name": "ci", "issuer": "http://ci.example", "audience": "mk8s"}
    (line,) = problems(federation=[jobs])
    assert line.startswith("login.federation: ci: issuer: ")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost/r", "http://[::1]:1"])
def test_an_issuer_of_this_machine_may_be_without_tls_where_that_is_said(url: str) -> None:
    said = json.dumps([issuer(issuer=url, allow_http=True)])
    assert load_settings(None, {"MK8S_LOGIN_ISSUERS": said}).login.issuers[0].issuer == url


@pytest.mark.parametrize("pattern", ["system:masters", "System:*", "mk8s:users"])
def test_groups_of_kubernetes_never_go_into_clusters(pattern: str) -> None:
    (line,) = problems(impersonate_groups=pattern)
    assert line.startswith(f'login.impersonate_groups: "{pattern}": never')


def test_a_central_that_nobody_could_enter_is_refused() -> None:
    (line,) = problems(passwords="off")
    assert line.startswith("login.passwords: off, but")
    said = {"MK8S_LOGIN_PASSWORDS": "off", "MK8S_LOGIN_ISSUERS": json.dumps([issuer()])}
    assert not load_settings(None, said).login.passwords


def test_by_default_there_are_passwords_alone() -> None:
    assert Settings().login == LoginSettings(passwords=True)
