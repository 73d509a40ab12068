"""Our entries in somebody else's kubeconfig: written, pruned, and nothing else disturbed."""

import base64
import contextlib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mk8s_cli.kubeconfig.document import Malformed, empty, parse, serialize
from mk8s_cli.kubeconfig.entries import Kubeconfig, Login, Plugin

URL, OTHER = "https://central.example", "https://other.example:8443"
PLUGIN = Plugin("/usr/local/bin/mk8s")
LOGIN = Login(URL, "PEM", PLUGIN)
SERVERS = {"dev": f"{URL}/k8s/dev", "prod": f"{URL}/k8s/prod"}

FOREIGN = """\
apiVersion: v1
kind: Config
preferences: {colors: true}
extensions:
- name: tool.example
  extension: {at: 2024-01-02T03:04:05Z, count: 0o17, yes: no}
current-context: mine
clusters:
- name: '0123'
  cluster:
    server: https://10.0.0.1:6443
    certificate-authority-data: QUJD
    extensions:
    - name: minikube.sigs.k8s.io
      extension: {last-update: 2024-01-02, version: 1.10}
users:
- name: me
  user: {token: "1e3", unknown-field: [a, 1_000, ~]}
contexts:
- name: mine
  context: {cluster: '0123', user: me, namespace: null}
"""


def read(text: str) -> Kubeconfig:
    return Kubeconfig([parse(text.encode(), "file")])


def plain(kubeconfig: Kubeconfig, index: int = 0) -> dict[str, Any]:
    """The file with every scalar as the text it has, so that nothing can hide in a conversion."""
    content = serialize(kubeconfig.documents[index])
    loaded: dict[str, Any] = yaml.load(content, Loader=yaml.BaseLoader)
    return loaded


def named(document: dict[str, Any], kind: str) -> dict[str, Any]:
    return {entry["name"]: entry for entry in document.get(kind, [])}


def test_an_empty_file_gets_our_entries() -> None:
    kubeconfig = read("")
    outcome = kubeconfig.sync(LOGIN, SERVERS)
    assert outcome.contexts == {"dev": "dev", "prod": "prod"}
    document = yaml.safe_load(serialize(kubeconfig.documents[0]))
    assert document["kind"] == "Config"
    assert named(document, "clusters")["mk8s-prod"]["cluster"] == {
        "server": f"{URL}/k8s/prod",
        "certificate-authority-data": base64.b64encode(b"PEM").decode(),
    }
    assert named(document, "contexts")["prod"]["context"] == {
        "cluster": "mk8s-prod",
        "user": "mk8s-prod",
    }
    assert named(document, "users")["mk8s-prod"]["user"]["exec"] == {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "args": ["get-token", "--cluster", "prod", "--central", URL],
        "command": "/usr/local/bin/mk8s",
        "installHint": "mk8s is not installed where this kubeconfig expects it; "
        "run: mk8s kubeconfig sync",
        "interactiveMode": "Never",
        "provideClusterInfo": False,
    }
    assert "current-context" not in document


def test_plugin_through_the_interpreter_keeps_home() -> None:
    kubeconfig = read("")
    plugin = Plugin("/usr/bin/python3", ("-m", "mk8s_cli"), (("MK8S_HOME", "/tmp/x"),))
    kubeconfig.sync(Login(URL, "", plugin), {"dev": f"{URL}/k8s/dev"})
    document = yaml.safe_load(serialize(kubeconfig.documents[0]))
    entry = document["users"][0]["user"]["exec"]
    assert entry["args"][:3] == ["-m", "mk8s_cli", "get-token"]
    assert entry["env"] == [{"name": "MK8S_HOME", "value": "/tmp/x"}]
    assert "certificate-authority-data" not in document["clusters"][0]["cluster"]
    assert kubeconfig.contexts_of(URL) == {"dev": "dev"}


def test_foreign_entries_keep_every_character() -> None:
    before = plain(read(FOREIGN))
    kubeconfig = read(FOREIGN)
    kubeconfig.sync(LOGIN, SERVERS)
    assert kubeconfig.current_context == "mine"
    kubeconfig.remove(URL)
    assert plain(kubeconfig) == before
    text = serialize(kubeconfig.documents[0]).decode()
    for scalar in ("0o17", "2024-01-02T03:04:05Z", "'0123'", "1.10", '"1e3"', "1_000", "yes: no"):
        assert scalar in text


def test_a_second_sync_changes_nothing() -> None:
    kubeconfig = read(FOREIGN)
    kubeconfig.sync(LOGIN, SERVERS)
    again = read(serialize(kubeconfig.documents[0]).decode())
    again.sync(LOGIN, SERVERS)
    assert not again.documents[0].changed


def test_lost_clusters_go_and_others_stay() -> None:
    kubeconfig = read(FOREIGN)
    kubeconfig.sync(LOGIN, SERVERS)
    kubeconfig.sync(Login(OTHER, "", PLUGIN), {"prod": f"{OTHER}/k8s/prod"})
    outcome = kubeconfig.sync(LOGIN, {"dev": SERVERS["dev"]})
    assert outcome.removed == ("prod",)
    assert kubeconfig.contexts_of(URL) == {"dev": "dev"}
    assert kubeconfig.contexts_of(OTHER) == {"prod": "mk8s-prod"}
    assert kubeconfig.has_context("mine")
    assert kubeconfig.sync(LOGIN, {}, prune=False).removed == ()


def test_taken_names_are_left_to_their_owners() -> None:
    text = """
clusters: [{name: mk8s-dev, cluster: {server: https://mine}}]
users: [{name: mk8s-dev, user: {token: t}}]
contexts:
- {name: dev, context: {cluster: mk8s-dev, user: mk8s-dev}}
- {name: mk8s-dev, context: {cluster: x, user: y}}
"""
    kubeconfig = read(text)
    contexts = kubeconfig.sync(LOGIN, SERVERS).contexts
    assert contexts["prod"] == "prod"
    assert contexts["dev"] not in {"dev", "mk8s-dev"}
    kubeconfig.remove(URL)
    assert plain(kubeconfig) == plain(read(text))


def test_what_the_user_changed_in_our_entries_survives() -> None:
    kubeconfig = read("")
    kubeconfig.sync(LOGIN, SERVERS)
    document = yaml.safe_load(serialize(kubeconfig.documents[0]))
    contexts = named(document, "contexts")
    contexts["prod"]["context"] |= {"namespace": "shop", "extensions": [{"name": "x"}]}
    contexts["dev"]["name"] = "renamed"
    clusters = named(document, "clusters")
    clusters["mk8s-prod"]["cluster"] |= {
        "proxy-url": "http://proxy:1",
        "insecure-skip-tls-verify": True,
        "server": "https://evil",
    }
    named(document, "users")["mk8s-prod"]["user"]["token"] = "static"
    again = read(yaml.safe_dump(document))
    assert again.sync(LOGIN, SERVERS).contexts == {"dev": "renamed", "prod": "prod"}
    after = yaml.safe_load(serialize(again.documents[0]))
    assert named(after, "contexts")["prod"]["context"]["namespace"] == "shop"
    assert named(after, "contexts")["prod"]["context"]["extensions"] == [{"name": "x"}]
    cluster = named(after, "clusters")["mk8s-prod"]["cluster"]
    assert cluster["proxy-url"] == "http://proxy:1"
    assert cluster["server"] == SERVERS["prod"]
    assert "insecure-skip-tls-verify" not in cluster
    assert set(named(after, "users")["mk8s-prod"]["user"]) == {"exec"}


def test_of_several_files_the_first_wins_and_entries_change_where_they_are() -> None:
    first, second = read(FOREIGN).documents[0], empty()
    Kubeconfig([second]).sync(LOGIN, {"dev": "https://old"})
    second.changed = False
    merged = Kubeconfig([first, second])
    merged.sync(LOGIN, SERVERS)
    assert set(named(plain(merged, 1), "contexts")) == {"dev"}
    assert set(named(plain(merged, 0), "contexts")) == {"mine", "prod"}
    assert named(plain(merged, 1), "clusters")["mk8s-dev"]["cluster"]["server"] == SERVERS["dev"]
    merged.use_context("dev")
    assert plain(merged, 0)["current-context"] == "dev"
    merged.set_namespace("dev", "shop")
    assert named(plain(merged, 1), "contexts")["dev"]["context"]["namespace"] == "shop"


def test_shadowed_context_is_not_taken_for_ours() -> None:
    ours = empty()
    Kubeconfig([ours]).sync(LOGIN, {"dev": SERVERS["dev"]})
    shadow = parse(b"contexts: [{name: dev, context: {cluster: a, user: b}}]", "file")
    merged = Kubeconfig([shadow, ours])
    assert merged.contexts_of(URL) == {}
    assert merged.sync(LOGIN, {"dev": SERVERS["dev"]}).contexts == {"dev": "mk8s-dev"}


def test_whether_anything_is_not_ours() -> None:
    kubeconfig = read("")
    kubeconfig.sync(LOGIN, SERVERS)
    assert not kubeconfig.foreign_entries()
    assert read(FOREIGN).foreign_entries()


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "\t- a",
        "- a",
        "text",
        "a: b\n---\nc: d",
        "clusters: {}",
        "users: text",
        "contexts: [text]",
        "contexts: [{context: {}}]",
        "clusters: [{name: [a]}]",
        "clusters: [{name: null}]",
        "\x00",
        "a: *b",
    ],
)
def test_malformed_text_is_one_line(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(text)
    assert "the kubeconfig file" in str(refused.value)
    assert "not changed" in str(refused.value)


def test_bytes_that_are_no_text_and_huge_files_are_malformed() -> None:
    with pytest.raises(Malformed):
        parse(b"\xff\xfe\x00", "file")
    with pytest.raises(Malformed, match="larger"):
        parse(b" " * (17 << 20), "file")
    with pytest.raises(Malformed):
        parse(b"[" * 100_000, "file")


def test_null_lists_and_odd_entries_are_kubectls_business() -> None:
    text = "clusters: null\nusers: []\ncontexts:\n- {name: a}\n- {name: b, context: text}\n"
    kubeconfig = read(text)
    kubeconfig.sync(LOGIN, {"dev": SERVERS["dev"]})
    contexts = named(plain(kubeconfig), "contexts")
    assert contexts["a"] == {"name": "a"}
    assert contexts["b"] == {"name": "b", "context": "text"}
    assert kubeconfig.contexts_of(URL) == {"dev": "dev"}


@pytest.mark.parametrize("text", ["null", "~", "# only a comment\n", "{}"])
def test_empty_forms(text: str) -> None:
    kubeconfig = read(text)
    kubeconfig.sync(LOGIN, {"dev": SERVERS["dev"]})
    assert kubeconfig.contexts_of(URL) == {"dev": "dev"}


def test_json_stays_readable() -> None:
    kubeconfig = read('{"clusters": [{"name": "a", "cluster": {"server": "https://a"}}]}')
    kubeconfig.sync(LOGIN, SERVERS)
    assert set(named(plain(kubeconfig), "clusters")) == {"a", "mk8s-dev", "mk8s-prod"}


def test_aliases_survive() -> None:
    text = "x: &a {b: c}\nclusters: [{name: a, cluster: *a}, {name: b, cluster: *a}]\n"
    kubeconfig = read(text)
    kubeconfig.sync(LOGIN, SERVERS)
    clusters = named(plain(kubeconfig), "clusters")
    assert clusters["a"]["cluster"] == clusters["b"]["cluster"] == {"b": "c"}


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
names = texts.filter(lambda name: name and not name.startswith("mk8s-"))


def entries(key: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    entry = st.fixed_dictionaries(
        {"name": names, key: st.dictionaries(texts, values, max_size=4)},
        optional={"extensions": values},
    )
    return st.lists(entry, max_size=4, unique_by=lambda item: item["name"])


kubeconfigs = st.fixed_dictionaries(
    {"clusters": entries("cluster"), "users": entries("user"), "contexts": entries("context")},
    optional={"current-context": names, "preferences": values, "extensions": values},
)


# Building such documents is what takes the time, not the sync.
@settings(max_examples=40)
@given(document=kubeconfigs, flow=st.booleans(), lost=st.booleans())
def test_foreign_entries_survive_any_sync(document: dict[str, Any], flow: bool, lost: bool) -> None:
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=flow, allow_unicode=True)
    before = plain(read(text))
    kubeconfig = read(text)
    kubeconfig.sync(LOGIN, SERVERS)
    if lost:
        kubeconfig.sync(LOGIN, {})
    again = read(serialize(kubeconfig.documents[0]).decode())
    assert set(again.contexts_of(URL)) == (set() if lost else set(SERVERS))
    after = plain(again)
    for kind in ("clusters", "users", "contexts"):
        kept = [entry for entry in after[kind] if entry in before[kind]]
        assert kept == before[kind], "byte for byte and in order"
    assert {key: after.get(key) for key in before if not key.endswith("s")} == {
        key: before[key] for key in before if not key.endswith("s")
    }


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_malformed(content: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert serialize(parse(content, "file"))
