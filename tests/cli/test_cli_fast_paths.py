"""The short ways give what the long ways would, or leave it to them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import get_completion_class
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.central.access_token import AccessToken
from mk8s_cli.command_table import mk8s
from mk8s_cli.kubeconfig import known_names
from mk8s_cli.login import cached_token, config, exec_credential, exec_versions, token_cache
from mk8s_cli.terminal import derived, private_files
from mk8s_cli.terminal.errors import CliError
from tests.cli.conftest import Run

CENTRAL = "https://central.example:8443"
GROUP = "client.authentication.k8s.io"
WORDS = ["--cluster", "prod", "--central", CENTRAL]


def question(version: str, spec: dict[str, Any] | None = None) -> str:
    """What client-go puts into KUBERNETES_EXEC_INFO, line feed included."""
    asked = {"kind": "ExecCredential", "apiVersion": f"{GROUP}/{version}", "spec": spec or {}}
    return json.dumps(asked, separators=(",", ":")) + "\n"


@pytest.fixture
def kept() -> AccessToken:
    now = time.time()
    token = AccessToken("eyJ.abc-_.x", now, now + 900)
    token_cache.save(CENTRAL, "prod", token)
    return token


# --- get-token ---


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("spec", [{}, {"interactive": False}, {"interactive": True}])
def test_known_questions_are_answered_without_json(
    version: str, spec: dict[str, bool], kept: AccessToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", question(version, spec))
    monkeypatch.setattr(exec_credential, "api_version", lambda _: pytest.fail("it is known"))
    told = json.loads(cached_token.answer(WORDS))
    assert told["apiVersion"] == f"{GROUP}/{version}"
    assert told["status"]["token"] == kept.token


def test_other_questions_are_read(kept: AccessToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", question("v1", {"cluster": {"server": "x"}}))
    assert json.loads(cached_token.answer(WORDS))["apiVersion"] == f"{GROUP}/v1"
    monkeypatch.setenv("KUBERNETES_EXEC_INFO", question("v9"))
    with pytest.raises(CliError, match="update kubectl"):
        cached_token.answer(WORDS)


@pytest.mark.parametrize(
    ("noted", "version"),
    [(None, "v1beta1"), ("v1", "v1"), ("v1beta1", "v1beta1"), ("v9", "v1beta1")],
)
def test_without_a_question_the_version_is_the_noted_one(
    noted: str | None, version: str, kept: AccessToken
) -> None:
    if noted:
        exec_versions.note(CENTRAL, {"dev": f"{GROUP}/v1", "prod": f"{GROUP}/{noted}"})
    told = json.loads(cached_token.answer(WORDS))
    assert told["apiVersion"] == exec_versions.named_for(CENTRAL, "prod") == f"{GROUP}/{version}"


@pytest.mark.parametrize(
    "words",
    [
        [],
        [*WORDS, "-o", "yaml"],
        [*WORDS, "-o"],
        [*WORDS, "--help"],
        [*WORDS, "--unknown", "x"],
        ["--cluster", "prod", "--cluster", "prod"],
        ["--cluster", "", "--central", CENTRAL],
        ["--cluster", "../prod", "--central", CENTRAL],
        ["--cluster", "prod", "--central", "https://../../x"],
        ["--cluster", "prod", "--central", "https://central.example:8443/a"],
        ["--cluster", "prod", "--central", "http://central.example:8443"],
        ["--cluster", "absent", "--central", CENTRAL],
    ],
)
def test_attack_what_is_not_plain_is_left_to_the_command(
    words: list[str], kept: AccessToken, home: Path
) -> None:
    (home / "x").mkdir()
    (home / ".mk8s" / "x" / "prod.json").parent.mkdir()
    assert cached_token.answer(words) == ""
    assert cached_token.answer([*WORDS[2:], *WORDS[:2]]) != ""


def test_the_token_alone_is_there_too(kept: AccessToken) -> None:
    assert cached_token.answer([*WORDS, "-o", "token"]) == kept.token
    assert cached_token.answer(["--output", "token", *WORDS]) == kept.token
    assert cached_token.answer([*WORDS, "--output", "credential"]) == cached_token.answer(WORDS)


def test_without_a_central_the_current_one_is_meant(
    kept: AccessToken, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = WORDS[:2]
    assert cached_token.answer(words) == ""
    config.update(lambda _: config.Config(CENTRAL).with_profile(config.Profile(CENTRAL, "a@b")))
    assert cached_token.answer(words) == "", "nobody has read it yet"
    config.load()
    assert cached_token.answer(words) == cached_token.answer(WORDS) != ""
    monkeypatch.setenv("MK8S_CENTRAL", "https://other.example")
    assert cached_token.answer(words) == ""
    monkeypatch.setenv("MK8S_CENTRAL", CENTRAL)
    assert cached_token.answer(words) != ""
    monkeypatch.delenv("MK8S_CENTRAL")
    path = home / ".mk8s" / "config.yaml"
    path.write_text(path.read_text().replace("central.example", "changed.example"))
    assert cached_token.answer(words) == "", "the file was edited"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        '{"token": "t"}',
        ' {"token": "t", "obtained": 1.0, "expires": 9e99}',
        '{"token": "t", "obtained": 1.0, "expires": 9e99, "more": 1}',
        '{"token": "t\\u0041", "obtained": 1.0, "expires": 9e99}',
        '{"token": "", "obtained": 1.0, "expires": 9e99}',
        '{"token": "t", "obtained": x, "expires": 9e99}',
        '{"token": "t", "obtained": NaN, "expires": 9e99}',
        '{"token": "t", "obtained": 9e99, "expires": 9e99}',
        '{"token": "\u00e9", "obtained": 1.0, "expires": 9e99}',
    ],
)
def test_attack_a_cache_that_is_not_as_written_is_left_to_the_command(
    content: str, kept: AccessToken, home: Path
) -> None:
    path = home / ".mk8s" / "cache" / "central.example_8443" / "prod.json"
    path.write_text(content)
    assert cached_token.answer(WORDS) == ""


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_attack_a_cache_that_others_can_read_is_left_to_the_command(
    mode: int, kept: AccessToken, home: Path
) -> None:
    path = home / ".mk8s" / "cache" / "central.example_8443" / "prod.json"
    path.chmod(mode)
    assert cached_token.answer(WORDS) == ""


def test_nobody_without_a_home_is_answered(
    kept: AccessToken, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cached_token.answer(WORDS) == ""
    monkeypatch.setenv("MK8S_HOME", str(home / ".mk8s"))
    assert cached_token.answer(WORDS) != ""


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), min_size=1))
def test_whatever_the_token_is_the_document_is_json_that_holds_it(token: str) -> None:
    told = json.loads(exec_credential.answer(f"{GROUP}/v1", token, 1_000_000_000.0))
    assert told == {
        "apiVersion": f"{GROUP}/v1",
        "kind": "ExecCredential",
        "status": {"expirationTimestamp": "2001-09-09T01:45:55Z", "token": token},
    }


# --- what is derived ---


def test_what_is_derived_lasts_until_a_source_changes(tmp_path: Path) -> None:
    source, kept = tmp_path / "source", str(tmp_path / "derived" / "made")
    before = derived.stamp([str(source)])
    derived.save(kept, before, "nothing")
    assert derived.load(kept, before) == "nothing"
    source.write_text("a")
    now = derived.stamp([str(source)])
    assert derived.load(kept, now) is None
    derived.save(kept, now, "a\nb")
    assert derived.load(kept, now) == "a\nb"
    source.write_text("b")
    os.utime(source, ns=(1, 1))
    assert derived.load(kept, derived.stamp([str(source)])) is None


def test_what_cannot_be_kept_or_read_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    derived.save(str(tmp_path / "file" / "made"), "", "x")
    assert derived.load(str(tmp_path / "file" / "made"), "") is None
    broken = tmp_path / "broken"
    private_files.write_private(broken, b"\xff")
    assert derived.load(str(broken), "") is None
    broken.chmod(0o644)
    assert derived.load(str(broken), "") is None


def test_the_configuration_is_the_same_from_yaml_and_from_what_was_kept(home: Path) -> None:
    profile = config.Profile("https://c.example", "a@b", "PEM\nline\n", "file", "prod", "v1")
    changed = config.Config("https://c.example", "before").with_profile(profile)
    config.update(lambda _: changed)
    assert config.load() == changed
    kept = home / ".mk8s" / "derived" / "config.json"
    assert kept.exists()
    assert config.load() == changed
    for damage in (b"x", b"[]", b'{"centrals": 1}'):
        stamped = derived.stamp([str(home / ".mk8s" / "config.yaml")])
        derived.save(str(kept), stamped, damage.decode())
        assert config.load() == changed


def test_a_configuration_that_was_edited_counts_at_once(home: Path) -> None:
    config.update(lambda _: config.Config("https://one.example"))
    assert config.load().current == "https://one.example"
    path = home / ".mk8s" / "config.yaml"
    path.write_text(path.read_text().replace("one", "two"))
    assert config.load().current == "https://two.example"
    path.chmod(0o644)
    with pytest.raises(CliError, match="can be read by other users"):
        config.load()


# --- TAB ---


def people(home: Path, names: tuple[str, ...]) -> None:
    """A kubeconfig with contexts of ours, and a login."""
    config.update(lambda _: config.Config(CENTRAL).with_profile(config.Profile(CENTRAL, "a@b")))
    arguments = ["get-token", "--cluster", "NAME", "--central", CENTRAL]
    users, contexts = [], []
    for name in names:
        words = [name if word == "NAME" else word for word in arguments]
        users.append({"name": f"mk8s-{name}", "user": {"exec": {"args": words}}})
        context = {"cluster": f"mk8s-{name}", "user": f"mk8s-{name}"}
        contexts.append({"name": name, "context": context})
    path = home / ".kube" / "config"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"users": users, "contexts": contexts}))


def asked(shell: str, line: str) -> dict[str, str]:
    """The environment that click's script of a shell makes of a line."""
    words = line.split(" ")
    place = words[-1] if shell == "fish" else str(len(words) - 1)
    return {"_MK8S_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": place}


def completed(shell: str, line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What click itself answers."""
    for name, value in asked(shell, line).items():
        monkeypatch.setenv(name, value)
    found = get_completion_class(shell)
    assert found is not None
    return str(found(mk8s, {}, "mk8s", "_MK8S_COMPLETE").complete())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    "line", ["mk8s use ", "mk8s use d", "mk8s use dev", "mk8s clusters use p", "mk8s use x"]
)
def test_the_short_way_completes_names_as_click_does(
    shell: str, line: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(home, ("prod", "dev", "dev-2"))
    slow = completed(shell, line, monkeypatch)
    assert known_names.answer_shell(f"{home}/.mk8s") == slow
    people(home, ("other",))
    assert known_names.answer_shell(f"{home}/.mk8s") is None, "the kubeconfig has changed"
    assert completed(shell, "mk8s use ot", monkeypatch).count("other") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
@pytest.mark.parametrize(
    "line",
    ["mk8s", "mk8s cl", "mk8s use -", "mk8s use dev -", "mk8s 'use' d", "mk8s clusters list ",
     "mk8s --central x use d"],
)  # fmt: skip
def test_everything_else_is_left_to_click(
    shell: str, line: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(home, ("dev",))
    completed("bash", "mk8s use ", monkeypatch)
    for name, value in asked(shell, line).items():
        monkeypatch.setenv(name, value)
    assert known_names.answer_shell(f"{home}/.mk8s") is None
    assert known_names.answer_shell("") is None


def test_attack_names_that_no_shell_should_see_are_not_offered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(home, ("dev",))
    path = home / ".kube" / "config"
    path.write_text(path.read_text().replace('"name": "dev"', r'"name": "a b\u001b[2J"'))
    assert completed("bash", "mk8s use ", monkeypatch) == "plain,dev"


def test_commands_are_completed_with_their_help(monkeypatch: pytest.MonkeyPatch) -> None:
    assert completed("fish", "mk8s clusters u", monkeypatch) == (
        "plain,use\tMake a cluster the current one."
    )
    assert "--central" in completed("bash", "mk8s --c", monkeypatch)
    assert "ls" not in completed("bash", "mk8s clusters l", monkeypatch).replace("plain,list", "")


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mk8s_cli", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_tab_as_a_process_of_its_own(home: Path, run: Run) -> None:
    people(home, ("prod", "dev"))
    for _ in range(2):  # the first one collects the names
        done = program(**asked("bash", "mk8s use p"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "plain,prod\n", "")
    done = program(**asked("bash", "mk8s clusters us"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,use\n", "")


def test_codes_and_last_words_survive_the_quick_end() -> None:
    assert program("status").returncode == 1
    assert program("zzz").returncode == 2
    assert program("--version").stdout.startswith("mk8s ")
    full = "/dev/full"
    if Path(full).exists():
        with Path(full).open("w") as nowhere:
            words = [sys.executable, "-m", "mk8s_cli", "kubeconfig", "path"]
            done = subprocess.run(words, stdout=nowhere, stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
