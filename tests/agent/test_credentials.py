"""Where the agent finds its own credential, and that it fails closed without one."""

import asyncio
import base64
import contextlib
import json
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mk8s_agent.credentials import exec_plugin, token_sources
from mk8s_agent.credentials.exec_plugin import ExecCredential, ExecPluginError
from mk8s_agent.credentials.kubeconfig import KubeconfigError, kubeconfig_paths, load_context
from mk8s_agent.credentials.sources import (
    ApiServerCredentials,
    CredentialsError,
    load_credentials,
)
from mk8s_agent.credentials.token_sources import (
    CredentialsGone,
    ExecSource,
    FileSource,
    StaticSource,
)
from mk8s_agent.wire.egress_proxy import EgressProxies
from tests.support.logged import logged

V1 = "client.authentication.k8s.io/v1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_pem(authority: trustme.CA) -> bytes:
    return authority.cert_pem.bytes()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def document(
    user: object = None, cluster: object = None, context: object = None
) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": context or {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://10.0.0.1:6443"}}],
        "users": [{"name": "u", "user": user or {"token": "s3cret"}}],
    }


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


async def load(
    path: Path, context: str = "", environment: Mapping[str, str] | None = None
) -> ApiServerCredentials:
    return await load_credentials(
        kubeconfig=str(path), context=context, environment=environment or {}, home=path.parent
    )


async def refusal(path: Path, context: str = "") -> str:
    with pytest.raises(CredentialsError) as caught:
        await load(path, context)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "s3cret" not in sentence
    return sentence


# --- kubeconfig: what is taken ---


async def test_token_of_the_current_context(tmp_path: Path) -> None:
    found = await load(write(tmp_path / "config", document()))
    assert (found.host, found.port, found.path_prefix) == ("10.0.0.1", 6443, "")
    assert found.tls_server_name == "10.0.0.1"
    assert found.authorization() == b"Bearer s3cret"
    assert found.description == 'context "dev"'
    assert "s3cret" not in repr(found)
    found.rejected()
    with pytest.raises(TimeoutError):  # an endless task, although it has nothing to do
        async with asyncio.timeout(0):
            await found.keep_fresh()
    assert found.authorization() == b"Bearer s3cret"


async def test_server_with_a_path_prefix_and_a_server_name(tmp_path: Path, ca_pem: bytes) -> None:
    cluster = {
        "server": "https://rancher.example.com/k8s/clusters/c-1/",
        "tls-server-name": "inside",
        "certificate-authority-data": encoded(ca_pem),
    }
    found = await load(write(tmp_path / "config", document(cluster=cluster)))
    assert (found.host, found.port) == ("rancher.example.com", 443)
    assert found.path_prefix == "/k8s/clusters/c-1"
    assert found.tls_server_name == "inside"
    assert found.ca_pem == ca_pem
    context = found.tls_context(http2=False)
    assert context.verify_mode == ssl.CERT_REQUIRED


async def test_insecure_is_only_what_the_file_says(tmp_path: Path) -> None:
    cluster = {"server": "https://[::1]:6443", "insecure-skip-tls-verify": True}
    found = await load(write(tmp_path / "config", document(cluster=cluster)))
    assert found.host == "::1"
    assert found.insecure_skip_tls_verify
    assert found.tls_context(http2=True).verify_mode == ssl.CERT_NONE


async def test_relative_paths_start_at_their_file(
    tmp_path: Path, authority: trustme.CA, ca_pem: bytes
) -> None:
    leaf = authority.issue_cert("agent@example.com")
    folder = tmp_path / "here"
    cluster = {"server": "https://h", "certificate-authority": "pki/ca.pem"}
    user = {"client-certificate": "pki/agent.pem", "client-key": "pki/agent.key"}
    path = write(folder / "config", document(user, cluster))
    (folder / "pki").mkdir()
    (folder / "pki" / "ca.pem").write_bytes(ca_pem)
    (folder / "pki" / "agent.pem").write_bytes(leaf.cert_chain_pems[0].bytes())
    (folder / "pki" / "agent.key").write_bytes(leaf.private_key_pem.bytes())
    found = await load(path)
    assert found.ca_pem == ca_pem
    assert found.authorization() == b""
    assert found.client_certificate == (
        leaf.cert_chain_pems[0].bytes(),
        leaf.private_key_pem.bytes(),
    )


async def test_token_file_wins_over_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    user = {"token": "s3cret", "tokenFile": "token"}
    found = await load(write(tmp_path / "config", document(user)))
    assert found.authorization() == b"Bearer from-file"


def test_the_first_file_wins_whole_entries(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a",
        {"users": [{"name": "u", "user": {"token": "first"}}], "current-context": ""},
    )
    second = write(tmp_path / "b", document({"token": "second", "tokenFile": "/nowhere"}))
    third = write(tmp_path / "c", {"current-context": "other"})
    context = load_context([first, second, third])
    assert context.name == "dev"
    assert context.user.token == "first"
    assert context.user.token_file is None


def test_which_files(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", {}), write(tmp_path / "b", {})
    home_file = write(tmp_path / ".kube" / "config", {})
    listed = {"KUBECONFIG": f"{a}::{tmp_path}/missing:{b}:{a}"}
    assert kubeconfig_paths("", listed, tmp_path) == (a, b)
    assert kubeconfig_paths(str(b), listed, tmp_path) == (b,)
    assert kubeconfig_paths("", {"KUBECONFIG": ""}, tmp_path) == (home_file,)
    with pytest.raises(KubeconfigError, match=r"no kubeconfig at .*/missing; give one"):
        kubeconfig_paths(f"{tmp_path}/missing", {}, tmp_path)


# --- kubeconfig: what is refused ---


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\x00\x01", "is not YAML text"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"users:\n  - token: s3cret: s3cret\n", "is not YAML: line 2"),
        (b"- a\n", "is not a mapping"),
        (b"", "no current-context"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n613", "is encrypted"),
        (b"sops: {}\nusers: []", "is encrypted by sops"),
        (b"users: {}", "users is not a list"),
        (b"users: [s3cret]", r"users\[0\] is not a mapping"),
        (b"users: [{name: u, user: s3cret}]", r"users\[0\].user is not a mapping"),
        (b"users: [{name: u}, {name: u}]", 'the name "u" is there twice'),
        (b"users: [{name: [u]}]", "name is not a string"),
        (b"current-context: 7", "current-context is not a string"),
        (b"x" * (4 * 1024 * 1024 + 1), "is longer than"),
    ],
)
async def test_malformed_kubeconfig(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(content)
    with pytest.raises(KubeconfigError, match=sentence) as caught:
        load_context([path])
    assert "s3cret" not in str(caught.value)


async def test_unreadable_kubeconfig(tmp_path: Path) -> None:
    assert "Is a directory" in await refusal(tmp_path)


async def test_unknown_names(tmp_path: Path) -> None:
    path = write(tmp_path / "config", document())
    assert await refusal(path, "devv") == (
        'the kubeconfig has no context "devv"; did you mean "dev"?'
    )
    assert await refusal(path, "zzz") == (
        'the kubeconfig has no context "zzz"; the contexts are: dev'
    )
    path = write(tmp_path / "config", document(context={"cluster": "x", "user": "u"}))
    assert await refusal(path) == 'the kubeconfig has no cluster "x"'


@pytest.mark.parametrize(
    ("cluster", "sentence"),
    [
        ({"server": "http://h:80"}, "is not a URL like https://"),
        ({"server": "h:6443"}, "is not a URL like https://"),
        ({"server": "https://h:99999"}, "is not a URL like https://"),
        ({"server": "https://a:b@h"}, "has more in its URL"),
        ({"server": "https://h/?x=1"}, "has more in its URL"),
        ({"server": "https://h/a/../b c"}, "has more in its URL"),
        ({"server": 1}, "server is not a string"),
        ({"server": "https://h", "proxy-url": "ftp://secret@p"}, "proxy-url must look like http"),
        ({"server": "https://h", "proxy-url": "p:3128"}, "is none of http://, https:// and socks5"),
        ({"server": "https://h", "insecure-skip-tls-verify": "yes"}, "neither true nor false"),
        ({"server": "https://h", "certificate-authority-data": "%"}, "is not base64"),
        ({"server": "https://h", "certificate-authority-data": "aGk="}, "is not PEM"),
        ({"server": "https://h", "certificate-authority": "missing.pem"}, "cannot read"),
        (
            {
                "server": "https://h",
                "certificate-authority-data": encoded(b"-----BEGIN CERTIFICATE-----\nx"),
            },
            "cannot be used",
        ),
        (
            {
                "server": "https://h",
                "insecure-skip-tls-verify": True,
                "certificate-authority-data": encoded(b"-----BEGIN CERTIFICATE-----\nx"),
            },
            "exclude each other",
        ),
    ],
)
async def test_refused_clusters(tmp_path: Path, cluster: object, sentence: str) -> None:
    assert sentence in await refusal(write(tmp_path / "config", document(cluster=cluster)))


async def test_the_proxy_of_the_context_goes_before_that_of_the_environment(tmp_path: Path) -> None:
    proxies = EgressProxies("http://environment:1", "direct.example")

    async def through(server: str, **cluster: str) -> str:
        entry = {"server": server, **cluster}
        path = write(tmp_path / "config", document(cluster=entry))
        found = await load_credentials(
            kubeconfig=str(path), environment={}, home=tmp_path, proxies=proxies
        )
        assert "secret" not in repr(found)
        return str(found.proxy)

    mine = {"proxy-url": "socks5://u:secret@mine"}
    assert await through("https://direct.example", **mine) == "socks5://mine:1080"
    assert await through("https://direct.example") == "None"
    assert await through("https://other.example") == "http://environment:1"


PEM = encoded(b"-----BEGIN CERTIFICATE-----\nx")
ENCRYPTED = encoded(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nx")


def plugin_entry(**changes: object) -> dict[str, object]:
    return {"exec": {"apiVersion": V1, "command": "p", "interactiveMode": "Never"} | changes}


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ({"username": "admin", "password": "s3cret"}, "user name and password"),
        ({"auth-provider": {"name": "gcp"}, "token": "x"}, "an auth-provider"),
        ({"token": "x", "as": "root"}, "impersonation (as)"),
        ({"token": "x", "as-groups": ["system:masters"]}, "impersonation (as-groups)"),
        ({"namespace": "x"}, "has no credential"),
        ({"token": "s3cret\nX: y"}, "holds no token"),
        ({"tokenFile": "missing"}, "cannot read the token file"),
        ({"client-certificate-data": PEM}, "come together"),
        ({"client-certificate-data": PEM, "client-key-data": ENCRYPTED}, "is encrypted"),
        ({"client-certificate-data": PEM, "client-key-data": PEM}, "cannot be used"),
        ({"exec": "x"}, "exec is not a mapping"),
        (plugin_entry(apiVersion="v1"), "apiVersion is none of"),
        (plugin_entry(interactiveMode="Always"), "needs a prompt"),
        (plugin_entry(command=""), "has no command"),
        (plugin_entry(args="x"), "exec.args is not a list of strings"),
        (plugin_entry(args=[1]), "exec.args is not a list of strings"),
        (plugin_entry(args=["get-token", "--cluster", "c", "--central", "u"]), "through mk8s"),
        (plugin_entry(env={"a": "b"}), "exec.env is not a list"),
        (plugin_entry(env=["a"]), "exec.env is not a list"),
        (plugin_entry(command="/missing/p", installHint="brew install\np"), "; brew install p"),
        (plugin_entry(command="no-such-plugin-here"), "No such file or directory; install it"),
    ],
)
async def test_refused_users(tmp_path: Path, user: object, sentence: str) -> None:
    assert sentence in await refusal(write(tmp_path / "config", document(user)))


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("https://h"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "user", "cluster", "context", "users", "clusters", "contexts", "server",
                 "current-context", "exec", "token", "env", "args"]
            ),
            inner,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["users", "clusters", "contexts"]), json_like))
def test_no_document_does_anything_but_be_refused(tmp_path: Path, content: object) -> None:
    with contextlib.suppress(KubeconfigError):
        load_context([write(tmp_path / "config", content)], "dev")


# --- the ServiceAccount of a pod ---

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


@pytest.fixture
def mounted(tmp_path: Path, ca_pem: bytes) -> Path:
    directory = tmp_path / "serviceaccount"
    directory.mkdir()
    (directory / "ca.crt").write_bytes(ca_pem)
    (directory / "token").write_text("sa-token")
    return directory


async def in_pod(mounted: Path, environment: Mapping[str, str] = POD) -> ApiServerCredentials:
    return await load_credentials(
        environment=environment, home=mounted.parent, service_account=mounted
    )


async def test_service_account(mounted: Path, ca_pem: bytes) -> None:
    found = await in_pod(mounted)
    assert (found.host, found.port, found.ca_pem) == ("10.96.0.1", 6443, ca_pem)
    assert found.authorization() == b"Bearer sa-token"
    assert not found.insecure_skip_tls_verify


async def test_outside_a_pod_it_is_the_kubeconfig(mounted: Path) -> None:
    with pytest.raises(CredentialsError, match="no kubeconfig at"):
        await in_pod(mounted, {})


async def test_a_pod_without_its_mount(mounted: Path) -> None:
    (mounted / "ca.crt").unlink()
    with pytest.raises(CredentialsError, match="automountServiceAccountToken"):
        await in_pod(mounted)


async def test_a_malformed_service_port(mounted: Path) -> None:
    with pytest.raises(CredentialsError, match="KUBERNETES_SERVICE_PORT is not a number"):
        await in_pod(mounted, POD | {"KUBERNETES_SERVICE_PORT": "tcp://x"})


# --- a token file that is rotated ---


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rotated_token_file(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "token"
    path.write_text("one")
    source = FileSource(path, monotonic=clock)
    assert source.authorization() == b"Bearer one"
    path.write_text("second")
    assert source.authorization() == b"Bearer one"  # not looked at within the second
    clock.now += 1
    assert source.authorization() == b"Bearer second"
    clock.now += 1
    assert source.authorization() == b"Bearer second"  # looked at, unchanged, not read


def test_service_account_token_deleted_while_running(tmp_path: Path) -> None:
    """The next request would run as system:anonymous."""
    clock = Clock()
    path = tmp_path / "token"
    path.write_text("one")
    source = FileSource(path, monotonic=clock)
    assert source.authorization() == b"Bearer one"
    path.unlink()
    clock.now += 1
    with pytest.raises(CredentialsGone, match="No such file"):
        source.authorization()
    path.write_text("")
    clock.now += 1
    with pytest.raises(CredentialsGone, match="is empty"):
        source.authorization()
    path.write_bytes(b"a\r\nX-Remote-User: root")
    clock.now += 1
    with pytest.raises(CredentialsGone, match="holds no token"):
        source.authorization()
    path.write_text("two")
    clock.now += 1
    assert source.authorization() == b"Bearer two"


def test_a_token_file_that_is_half_written_keeps_the_old_token_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    path = tmp_path / "token"
    path.write_text("one")
    source = FileSource(path, monotonic=clock)
    assert source.authorization() == b"Bearer one"
    path.write_text("")
    for _ in range(10):
        clock.now += 1
        assert source.authorization() == b"Bearer one"
    assert [record.message for record in caplog.records] == ["credential.token_file_not_usable"]
    clock.now += 1
    with pytest.raises(CredentialsGone, match="is empty"):
        source.authorization()
    path.write_text("two")
    clock.now += 1
    assert source.authorization() == b"Bearer two"


def test_a_token_that_was_refused_does_not_outlive_its_file(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "token"
    path.write_text("one")
    source = FileSource(path, monotonic=clock)
    assert source.authorization() == b"Bearer one"
    path.write_text("")
    clock.now += 1
    assert source.authorization() == b"Bearer one"
    source.rejected()
    with pytest.raises(CredentialsGone, match="is empty"):
        source.authorization()


def test_a_rejected_token_file_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    source = FileSource(path, monotonic=Clock())
    assert source.authorization() == b"Bearer one"
    path.write_text("two")
    source.rejected()
    assert source.authorization() == b"Bearer two"


def test_no_credential_at_all_is_not_anonymous() -> None:
    nothing = ApiServerCredentials(
        description="x",
        host="h",
        port=1,
        path_prefix="",
        tls_server_name="h",
        ca_pem=b"",
        insecure_skip_tls_verify=False,
        source=StaticSource(""),
        client_certificate=None,
    )
    with pytest.raises(CredentialsGone, match="neither a token nor a client certificate"):
        nothing.authorization()


# --- exec plugins ---


def plugin_script(folder: Path, body: str) -> Path:
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{body}\n")
    path.chmod(0o755)
    return path


def printed(**status: object) -> str:
    credential = {"apiVersion": V1, "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(credential)!r})"


async def test_exec_plugin_by_relative_path(tmp_path: Path, ca_pem: bytes) -> None:
    plugin_script(
        tmp_path,
        "open(sys.argv[1], 'w').write(os.environ['KUBERNETES_EXEC_INFO'] + os.environ['EXTRA'])\n"
        "assert sys.stdin.read() == ''\n" + printed(token="from-plugin"),
    )
    seen = tmp_path / "seen"
    user = plugin_entry(
        command="./plugin",
        args=[str(seen)],
        env=[{"name": "EXTRA", "value": "!"}],
        provideClusterInfo=True,
    )
    cluster = {
        "server": "https://h/prefix",
        "tls-server-name": "inside",
        "certificate-authority-data": encoded(ca_pem),
        "extensions": [
            {"name": "other", "extension": 1},
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}},
        ],
    }
    found = await load(write(tmp_path / "config", document(user, cluster)))
    assert found.authorization() == b"Bearer from-plugin"
    assert found.client_certificate is None
    assert json.loads(seen.read_text().removesuffix("!")) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://h/prefix",
                "tls-server-name": "inside",
                "certificate-authority-data": encoded(ca_pem),
                "config": {"audience": "x"},
            },
        },
    }


def test_exec_info_without_and_with_insecure(tmp_path: Path) -> None:
    cluster = {"server": "https://h", "insecure-skip-tls-verify": True}
    path = write(tmp_path / "config", document(plugin_entry(provideClusterInfo=True), cluster))
    context = load_context([path])
    assert context.user.exec_plugin
    info = json.loads(exec_plugin.exec_info(context.user.exec_plugin, context.cluster))
    assert info["spec"]["cluster"] == {
        "server": "https://h",
        "config": None,
        "insecure-skip-tls-verify": True,
    }
    context = load_context([write(path, document(plugin_entry()))])
    assert context.user.exec_plugin
    info = json.loads(exec_plugin.exec_info(context.user.exec_plugin, context.cluster))
    assert info["spec"] == {"interactive": False}


async def test_exec_plugin_with_a_client_certificate(tmp_path: Path, authority: trustme.CA) -> None:
    leaf = authority.issue_cert("agent@example.com")
    certificate, key = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
    status = {"clientCertificateData": certificate.decode(), "clientKeyData": key.decode()}
    plugin_script(tmp_path, printed(**status))
    found = await load(write(tmp_path / "config", document(plugin_entry(command="./plugin"))))
    assert found.authorization() == b""
    assert found.client_certificate == (certificate, key)
    assert found.generation == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("sys.exit('first line\\nlog in with: cloud login\\x1b[0m')", "cloud login"),
        ("sys.exit(3)", "failed with exit code 3"),
        ("print('Password:')", "printed no JSON"),
        ("print('[]')", "printed no ExecCredential"),
        ('print(\'{"kind": "ExecCredential"}\')', "another apiVersion"),
        (printed(), "neither a token nor a client certificate"),
        (printed(token=1), "a token that is not a string"),
        (printed(clientKeyData="x"), "without its key"),
        (printed(token="a b"), "holds no token"),
        (printed(token="a", expirationTimestamp="soon"), "that is no time"),
        (printed(token="a", expirationTimestamp="2030-01-01T00:00:00"), "without a time zone"),
        (printed(token="a", expirationTimestamp="2001-01-01T00:00:00Z"), "has expired"),
        (
            f"print({json.dumps({'apiVersion': V1, 'kind': 'ExecCredential'})!r})",
            "without a status",
        ),
        ("print('x' * (1024 * 1024 + 1))", "more than 1048576 bytes"),
    ],
)
async def test_exec_plugin_that_gives_no_credential(
    tmp_path: Path, body: str, sentence: str
) -> None:
    plugin_script(tmp_path, body)
    said = await refusal(write(tmp_path / "config", document(plugin_entry(command="./plugin"))))
    assert sentence in said
    assert said.isprintable()


async def test_attack_exec_plugin_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    script = plugin_script(tmp_path, "")
    script.write_text("#!/bin/sh\nexec yes\n")
    path = write(tmp_path / "config", document(plugin_entry(command="./plugin")))
    context = load_context([path])
    assert context.user.exec_plugin
    before = open_pipes()
    with pytest.raises(ExecPluginError, match="printed more than 1048576 bytes"):
        await exec_plugin.run_exec_plugin(context.user.exec_plugin, context.cluster, {}, seconds=60)
    await asyncio.sleep(0)
    assert open_pipes() == before


async def test_exec_plugin_that_complains_at_length_is_quoted_with_its_last_line(
    tmp_path: Path,
) -> None:
    plugin_script(
        tmp_path, "import sys; sys.stderr.write('x' * 300_000 + '\\nin the end'); exit(3)"
    )
    said = await refusal(write(tmp_path / "config", document(plugin_entry(command="./plugin"))))
    assert "exit code 3: in the end" in said


async def test_exec_plugin_that_prompts_is_ended_with_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = plugin_script(tmp_path, "")
    script.write_text(f"#!/bin/sh\nexec 3>{fifo}\necho here >&3\nsleep 600 &\nexit 0\n")
    path = write(tmp_path / "config", document(plugin_entry(command="./plugin")))
    context = load_context([path])
    assert context.user.exec_plugin
    with pytest.raises(ExecPluginError, match="gave no answer in 1 seconds; it must not prompt"):
        await exec_plugin.run_exec_plugin(
            context.user.exec_plugin, context.cluster, {}, seconds=1.0
        )
    os.set_blocking(reader, True)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "here\n"  # the end comes only when the last writer has died


async def test_exec_plugin_that_left_a_daemon_behind_keeps_no_pipe_open(tmp_path: Path) -> None:
    script = plugin_script(tmp_path, "")
    script.write_text("#!/bin/sh\nsetsid sleep 5 &\nexit 0\n")
    path = write(tmp_path / "config", document(plugin_entry(command="./plugin")))
    context = load_context([path])
    assert context.user.exec_plugin
    before = open_pipes()
    with pytest.raises(ExecPluginError, match="gave no answer"):
        await exec_plugin.run_exec_plugin(
            context.user.exec_plugin, context.cluster, {}, seconds=0.5
        )
    await asyncio.sleep(0)  # the loop closes what it was told to
    assert open_pipes() == before


def open_pipes() -> set[str]:
    """The pipes that this process has an end of."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists the folder
            found.add(str(entry.readlink()))
    return {name for name in found if name.startswith("pipe:")}


class Plugin:
    """A plugin in memory: gives what is queued."""

    def __init__(self, *answers: ExecCredential | ExecPluginError) -> None:
        self.answers = list(answers)
        self.ran = asyncio.Event()
        self.runs = 0

    async def __call__(self) -> ExecCredential:
        self.runs += 1
        self.ran.set()
        answer = self.answers.pop(0)
        if isinstance(answer, ExecPluginError):
            raise answer
        return answer


def credential(token: str, expires: float | None) -> ExecCredential:
    return ExecCredential(token, b"", b"", expires)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(token_sources, "_RETRY_SECONDS", 0.0)
    return


def exec_source(plugin: Plugin, clock: Clock) -> ExecSource:
    changes: list[Any] = []
    return ExecSource(plugin, clock=clock, changed=changes.append)


async def test_expired_exec_credential_is_not_sent() -> None:
    clock = Clock()
    source = exec_source(Plugin(credential("a", 1010.0)), clock)
    with pytest.raises(CredentialsGone, match="has not answered"):
        source.authorization()
    await source.renew()
    assert source.authorization() == b"Bearer a"
    clock.now = 1010.0
    with pytest.raises(CredentialsGone, match="has expired"):
        source.authorization()


@pytest.mark.usefixtures("no_pause")
async def test_exec_credential_is_renewed_ahead_of_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    plugin = Plugin(ExecPluginError("cloud is down"), credential("b", None))
    source = exec_source(plugin, clock)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(source.keep_fresh())
        while plugin.answers:
            plugin.ran.clear()
            await plugin.ran.wait()
        task.cancel()
    assert source.authorization() == b"Bearer b"
    assert "cloud is down" in logged(caplog)


@pytest.mark.usefixtures("no_pause")
async def test_rejected_exec_credential_runs_the_plugin_again() -> None:
    plugin = Plugin(credential("a", None), credential("b", 5000.0))
    source = exec_source(plugin, Clock())
    await source.renew()
    plugin.ran.clear()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(source.keep_fresh())
        source.rejected()
        await plugin.ran.wait()
        task.cancel()
    assert plugin.runs == 2
    assert source.authorization() == b"Bearer b"
