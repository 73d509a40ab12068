"""The agent's settings: who wins, and what each mistake is told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mk8s_agent.settings import Address, Settings, load_settings
from mk8s_agent.wire.settings import SettingsError

PIN = "sha256:" + "ab" * 32
GIVEN = {"CENTRAL_URL": "https://mk8s.example.com:8443", "CLUSTER_NAME": "prod"}


def load(
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
    in_pod: bool = False,
) -> Settings:
    variables = GIVEN if environment is None else {**GIVEN, **environment}
    return load_settings(
        options or {}, variables, config=config, home=Path("/somewhere"), in_pod=in_pod
    )


def refusal(
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(options, environment, config=config)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_least_settings() -> None:
    settings = load()
    assert settings.central == Address("mk8s.example.com", 8443)
    assert settings.cluster_name == "prod"
    assert settings.data_dir == Path("/somewhere/.local/share/mk8s-agent/prod")
    assert settings.tunnels == 2
    assert settings.health is None


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(
        "tunnels: 3\nca_pin: null\ncontext: file\nkubeconfig: file\ncluster_name: x\n"
    )
    variables = {"MK8S_AGENT_CONTEXT": "variable", "MK8S_AGENT_KUBECONFIG": "variable"}
    settings = load({"kubeconfig": "flag", "ca_pin": None}, variables, config=config)
    assert settings.tunnels == 3
    assert settings.context == "variable"
    assert settings.kubeconfig == "flag"
    assert settings.cluster_name == "prod"


def test_the_long_name_of_a_variable_wins() -> None:
    names = {"MK8S_AGENT_CLUSTER_NAME": "staging", "AGENT_TOKEN": "t", "CA_PIN": PIN.upper()}
    settings = load(environment=names)
    assert settings.cluster_name == "staging"
    assert settings.join_token == "t"
    assert settings.ca_pin == PIN
    assert "'t'" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mk8s.example.com", Address("mk8s.example.com", 443)),
        ("localhost:8443/", Address("localhost", 8443)),
        ("https://[::1]:8443/mk8s/", Address("::1", 8443)),
    ],
)
def test_central_urls(text: str, address: Address) -> None:
    assert load({"central_url": text}).central == address


def test_addresses_are_shown_as_they_are_typed() -> None:
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Address("h", 80)) == "h:80"


def test_in_a_pod_the_identity_is_kept_in_a_secret() -> None:
    assert load(in_pod=True).data_dir is None
    assert load({"data_dir": "~/x"}, in_pod=True).data_dir == Path("~/x").expanduser()
    assert load({"context": "kind"}, in_pod=True).data_dir is not None


def test_numbers_from_text() -> None:
    settings = load({"tunnels": "4"}, {"MK8S_AGENT_DRAIN_SECONDS": "1.5"})
    assert (settings.tunnels, settings.drain_seconds) == (4, 1.5)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:8082", Address("0.0.0.0", 8082)),
        (":0", Address("127.0.0.1", 0)),
        ("[::]:1", Address("::", 1)),
    ],
)
def test_health_addresses(text: str, address: Address) -> None:
    assert load({"health_listen": text}).health == address


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"central_url": " "}, "CENTRAL_URL is not set; mk8s admin clusters add NAME prints it"),
        ({"cluster_name": ""}, "CLUSTER_NAME is not set"),
        ({"central_url": "http://h"}, "CENTRAL_URL must be https, not http"),
        ({"central_url": "https://h:x"}, "is not a URL"),
        ({"central_url": "https://a:b@h"}, "is not host, port and path"),
        ({"central_url": "https://h?x"}, "is not host, port and path"),
        ({"central_url": "https://"}, "is not host, port and path"),
        ({"cluster_name": "Prod"}, "is not a name of lower-case letters"),
        ({"cluster_name": "a/../b"}, "is not a name of lower-case letters"),
        ({"cluster_name": "x" * 64}, "is not a name of lower-case letters"),
        ({"ca_pin": "sha256:12"}, "CA_PIN: a CA pin looks like"),
        ({"tunnels": "two"}, "tunnels: must be a whole number"),
        ({"tunnels": "0"}, "tunnels: must be at least 1"),
        ({"tunnels": "1.5"}, "tunnels: must be a whole number"),
        ({"join_timeout": "-1"}, "join_timeout: must be at least 0"),
        ({"drain_seconds": "nan"}, "drain_seconds: must be a number"),
        ({"health_listen": "8082"}, "is not host:port"),
        ({"health_listen": "h:99999"}, "is not host:port"),
        ({"health_listen": "h:²"}, "is not host:port"),
        ({"ca_pin": PIN, "ca_file": "x"}, "exclude each other"),
        ({"join_token": 7}, "join_token: must be text"),
    ],
)
def test_mistakes(options: Mapping[str, Any], sentence: str) -> None:
    assert sentence in refusal(options)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"tunels: 2", 'unknown setting "tunels" (did you mean "tunnels"?)'),
        (b"xyzzy: 2", 'unknown setting "xyzzy"'),
        (b"3: 2", 'unknown setting "3"'),
        (b"tunnels: [2]", "tunnels: must be a whole number"),
        (b"- a", "the file must be a mapping of settings"),
        (b"a: b: c", ":1:5: mapping values are not allowed"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, content: bytes, sentence: str) -> None:
    config = tmp_path / "agent.yaml"
    config.write_bytes(content)
    assert sentence in refusal(config=config)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refusal(config=tmp_path / "missing.yaml")


def test_the_log_is_set_like_centrals(tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("log: {level: debug}\n")
    settings = load(environment={"MK8S_AGENT_LOG_FORMAT": "text"}, config=config)
    assert (settings.log.level, settings.log.format) == ("debug", "text")
    assert 'log.level: "loud"' in refusal(environment={"MK8S_AGENT_LOG_LEVEL": "loud"})


def test_a_misspelt_variable_is_told() -> None:
    told = 'MK8S_AGENT_TUNELS (did you mean "MK8S_AGENT_TUNNELS"?)'
    assert told in refusal(environment={"MK8S_AGENT_TUNELS": "3"})


def test_the_usual_variables_of_proxies() -> None:
    settings = load(environment={"HTTPS_PROXY": "", "https_proxy": "http://u:hunter2@p:1"})
    assert str(settings.proxies.to("mk8s.example.com", 8443)) == "http://p:1"
    assert "hunter2" not in repr(settings)
    both = {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1", "no_proxy": "c.example"}
    assert str(load(environment=both).proxies.to("x", 1)) == "http://a:1"
    assert load(environment=both).proxies.to("c.example", 1) is None
    assert load().proxies.to("mk8s.example.com", 8443) is None


def test_a_proxy_that_is_none_is_told_without_its_password() -> None:
    said = refusal(environment={"HTTPS_PROXY": "ftp://u:secret@p:1"})
    assert "HTTPS_PROXY must look like http://host:port" in said
    assert "secret" not in said


DESCRIBED = """
central:
  url: https://mk8s.example.com:9443
  token: ${AGENT_TOKEN}
cluster:
  name: prod-us
tls:
  insecure: false
  ca_file: /etc/mk8s/ca.pem
"""


def load_file(tmp_path: Path, text: str, environment: Mapping[str, str]) -> Settings:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    return load_settings({}, environment, config=path, home=Path("/somewhere"), in_pod=False)


def test_keys_of_other_words_mean_settings(tmp_path: Path) -> None:
    settings = load_file(tmp_path, DESCRIBED, {"AGENT_TOKEN": "t"})
    assert settings.central == Address("mk8s.example.com", 9443)
    assert (settings.cluster_name, settings.join_token) == ("prod-us", "t")
    assert settings.ca_file == "/etc/mk8s/ca.pem"


def test_a_token_that_is_not_needed_any_more_may_be_empty(tmp_path: Path) -> None:
    assert load_file(tmp_path, DESCRIBED, {"AGENT_TOKEN": ""}).join_token == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("url: https", "url: grpc"), "must be https, not grpc"),
        (("insecure: false", "insecure: true"), "tls.insecure: an agent that trusts any server"),
        (("insecure: false", "insecure: 7"), "tls.insecure: must be true or false"),
        (("AGENT_TOKEN", "ABSENT"), "central.token: the environment variable ABSENT is not set"),
        (("cluster:", "ca_file: x\ncluster:"), "tls.ca_file: ca_file says the same: keep one"),
    ],
)
def test_described_keys_that_cannot_be(
    tmp_path: Path, change: tuple[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_file(tmp_path, DESCRIBED.replace(*change), {"AGENT_TOKEN": "t"})
    (problem,) = caught.value.problems
    assert sentence in problem
