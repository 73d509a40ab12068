"""What of kubectl central runs for callers, and what it refuses: one test for each way out."""

import json
import re
import tempfile
from pathlib import Path

import pytest

from mk8s_proxy.kubectl import rules, table
from mk8s_proxy.kubectl.check import MOST_ARGUMENTS, MOST_BYTES, Checked, check
from mk8s_proxy.kubectl.refusal import CommandRefused
from tests.kubectl_flags.__main__ import TABLE
from tests.kubectl_flags.merge import merged, text_of
from tests.kubectl_flags.read import Command, Flag, Kubectl
from tests.support import kubectl as kubectls

SAMPLE = ("get", "create", "create configmap", "exec", "debug", "top pod", "set", "set env")
"""A kubectl takes its time for each: the generator asks for all of them."""
COMMANDS = table.load().commands
RUN = [tuple(words.split()) for words in rules.COMMANDS]


def checked(line: str) -> Checked:
    return check(line.split(" "), "/k8s/prod")


def composed(line: str) -> str:
    return " ".join(checked(line).arguments)


def refused(line: str) -> str:
    with pytest.raises(CommandRefused) as refusal:
        checked(line)
    message = refusal.value.message
    assert "\n" not in message
    return message


# -- the list and the tables


@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_every_flag_of_every_version_of_a_command_that_is_run_is_decided_on(
    words: table.Words,
) -> None:
    rule, flags = rules.rule_of(words), COMMANDS[words].by_name.keys()
    assert flags - rule - rules.NOT_FLAGS.keys() == set()
    assert rule - flags == set(), "kubectl has no such flags"


def test_a_flag_is_not_both_let_through_and_refused_but_for_two_names() -> None:
    taken = {name for words in RUN for name in rules.rule_of(words)}
    # Of debug and of set env, run and create secret: other flags of the same name.
    assert taken & rules.NOT_FLAGS.keys() == {"profile", "user"}


def test_every_command_is_run_or_refused_with_a_reason() -> None:
    for words, command in COMMANDS.items():
        if words in RUN or (command.children and words not in RUN):
            continue
        with pytest.raises(CommandRefused, match=r"is not run here: \w"):
            rules.rule_of(words)


def test_the_table_is_what_the_present_kubectls_say() -> None:
    """Read again, for some commands; a version between two of the table must fit in, too."""
    programs = kubectls.few()
    if not programs:
        pytest.skip("no kubectl: set MK8S_TEST_KUBECTLS")
    with tempfile.TemporaryDirectory() as folder:
        kubectl = Kubectl(programs[-1], Path(folder))
        known = json.loads(TABLE.read_text())["commands"]
        for words, command in kubectl.commands(SAMPLE).items():
            assert set(command.aliases) <= set(known[words]["aliases"]), words
            for name, flag in command.flags.items():
                kind, short, *_ = known[words]["flags"][name]
                assert (kind, flag.short) == (flag.kind, flag.short and short), (words, name)


def test_the_table_of_several_versions_says_since_when_and_until_when() -> None:
    old = {
        "": Command((), {}),
        "get": Command((), {"a": Flag("switch", ""), "b": Flag("value", "b")}),
    }
    new = {
        "": Command((), {}),
        "get": Command(("g",), {"a": Flag("switch", "a"), "c": Flag("value", "")}),
    }
    found = merged({"1.10": new, "1.9": old})
    assert found["versions"] == ["1.9", "1.10"]
    assert found["commands"]["get"] == {
        "aliases": ["g"],
        "flags": {
            "a": ["switch", "a"],
            "b": ["value", "b", "", "1.9"],
            "c": ["value", "", "1.10", ""],
        },
    }
    assert table.table_of(json.loads(text_of(found))).versions == ("1.9", "1.10")


@pytest.mark.parametrize(
    "flags",
    [{"a": Flag("value", "a")}, {"a": Flag("switch", "x")}, {"n": Flag("value", "a")}],
)
def test_versions_that_read_a_flag_differently_do_not_fit_into_one_table(
    flags: dict[str, Flag],
) -> None:
    old = {"": Command((), {}), "get": Command((), {"a": Flag("switch", "a")})}
    with pytest.raises(ValueError, match="get"):
        merged({"1.9": old, "1.10": {"": Command((), {}), "get": Command((), flags)}})


def test_the_table_is_in_the_text_that_the_generator_writes() -> None:
    versions = re.findall(r'"(1\.\d+)"', TABLE.read_text().splitlines()[0])
    assert tuple(versions) == table.load().versions
    assert versions == sorted(versions, key=lambda text: int(text[2:]))


# -- what is run, and how it is said then


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        ("get pods -n default", "get --namespace=default pods"),
        ("get po -Aojson", "get --all-namespaces=true --output=json po"),
        ("-n shop get pods --watch=1", "get --namespace=shop --watch=true pods"),
        ("get pods -w", "get --watch=true pods"),
        ("get pods --watch=false", "get --watch=false pods"),
        ("apply -f - --dry-run", "apply --filename=- --dry-run"),
        ("apply -f=- --dry-run=server", "apply --filename=- --dry-run=server"),
        ("exec web -i -c app -- sh -c ls", "exec --stdin=true --container=app web -- sh -c ls"),
        ("exec web -- kubectl --token x", "exec web -- kubectl --token x"),
        ("logs web -f --tail=5", "logs --follow=true --tail=5 web"),
        ("top po", "top pod"),
        ("create deploy web --image=x", "create deployment --image=x web"),
        ("get --raw /apis/apps/v1?x=1", "get --raw=/k8s/prod/apis/apps/v1?x=1"),
        ("wait pod/web --for=condition=Ready", "wait --for=condition=Ready pod/web"),
        ("create token robot --duration 10m", "create token --duration=10m robot"),
        ("get pods -o jsonpath={.items}", "get --output=jsonpath={.items} pods"),
        ("get pods --template {{.x}} -o go-template",
         "get --template={{.x}} --output=go-template pods"),
        ("debug node/n1 --image=x --profile=general",
         "debug --image=x --profile=general node/n1"),
        ("get pods -v 5", "get --v=5 pods"),
        ("delete pod web --as-uid=1", "delete --as-uid=1 pod web"),
    ],
)  # fmt: skip
def test_what_is_run(asked: str, run: str) -> None:
    assert composed(asked) == run
    assert checked(asked).shown == checked(asked).arguments


def test_as_whom_somebody_wants_to_act_is_told_for_policy_to_decide() -> None:
    found = checked("get pods --as jo --as-group=a,b --as-group c")
    assert (found.users, found.groups) == (("jo",), ("a,b", "c"))


def test_secrets_of_a_command_are_not_shown() -> None:
    assert checked("create secret generic x --from-literal=a=b").shown == (
        "create", "secret", "generic", "--from-literal=REDACTED", "x",
    )  # fmt: skip
    assert checked("set env deployment/web A=b C-").shown == (
        "set", "env", "deployment/web", "A=REDACTED", "C-",
    )  # fmt: skip
    assert "hunter2" not in " ".join(
        checked("create secret docker-registry x --docker-password hunter2").shown
    )


# -- what is refused


@pytest.mark.parametrize(
    "flag",
    ["--kubeconfig=/x", "--server=https://evil.example", "-s=https://evil.example", "--token=x",
     "--username=x", "--password=x", "--client-key=/x", "--client-certificate=/x",
     "--certificate-authority=/x", "--insecure-skip-tls-verify", "--tls-server-name=x",
     "--cluster=x", "--context=x", "--user=x", "--cache-dir=/x", "--profile=cpu",
     "--profile-output=/x", "--log-flush-frequency=1s", "--vmodule=x=9", "--kuberc=/x",
     "--proxy-url=http://evil.example"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["get pods {}", "{} get pods"])
def test_flags_that_would_lead_kubectl_elsewhere(command: str, flag: str) -> None:
    assert "is not taken for kubectl get: " in refused(command.format(flag))


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "./x", "https://evil.example/x", ".", "-,/etc/passwd", "", "@x", "--"]
)
@pytest.mark.parametrize("command", ["apply", "create", "get", "delete", "exec", "debug"])
def test_files_folders_and_urls_of_filename(command: str, value: str) -> None:
    for spelling in (f"--filename={value}", f"-f {value}", f"-f={value}"):
        if spelling == "-f=" and not value:
            continue  # which is the value "="
        assert "only - is taken" in refused(f"{command} {spelling}")


@pytest.mark.parametrize(
    "line",
    ["apply -k .", "apply --kustomize=https://evil.example", "get -k x", "delete -k x",
     "create configmap x --from-file=/etc/passwd", "create configmap x --from-file=a=@/etc/passwd",
     "create secret generic x --from-env-file=/x", "create configmap x --from-env-file=/x",
     "create secret docker-registry x --from-file=/x", "patch pod x --patch-file=/x",
     "debug web --custom=/x", "cluster-info dump --output-directory=/tmp"],
)  # fmt: skip
def test_flags_that_read_or_write_files(line: str) -> None:
    assert "it names a file of central" in refused(line)


@pytest.mark.parametrize(
    "output",
    ["go-template-file=/x", "go-template-file", "templatefile=/x", "jsonpath-file=/x",
     "custom-columns-file=/x", "JSONPATH-FILE=/x", "Json", "go-template-FILE"],
)  # fmt: skip
def test_output_formats_that_read_a_template_file(output: str) -> None:
    assert "is no format that is written here" in refused(f"get pods -o {output}")
    assert "is no format" in refused(f"get pods --template /x --output={output} -o json")


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "https://evil.example/",
        "//evil.example/",
        "",
        "/a b",
        "/a\\b",
        "/a#b",
        "/a\n",
        "/é",
        "/..",
        "/a/../b",
        "/./a",
        "/a/..?x",
        "/%2e%2E/a",
        "/a/.%2e%2fb",
    ],
)
@pytest.mark.parametrize("command", ["get", "create", "replace", "delete"])
def test_raw_requests_for_anything_but_a_path(command: str, path: str) -> None:
    assert "only a path is taken" in refused_list([command, f"--raw={path}"])


def refused_list(arguments: list[str]) -> str:
    with pytest.raises(CommandRefused) as refusal:
        check(arguments, "/k8s/prod")
    return refusal.value.message


@pytest.mark.parametrize(
    "line",
    ["cp web:/x /tmp/x", "proxy", "proxy --port=0", "port-forward web 8080", "edit pod web",
     "config view --raw", "config set x y", "config", "plugin", "plugin list", "attach web",
     "attach -it web", "kustomize .", "completion bash", "diff -f -",
     "apply view-last-applied pod/web", "apply edit-last-applied pod/web",
     "apply set-last-applied -f -", "create secret tls x --cert=/x --key=/x", "kuberc view"],
)  # fmt: skip
def test_commands_that_are_not_run(line: str) -> None:
    assert "is not run here: " in refused(line)


@pytest.mark.parametrize(
    "line",
    ["ns", "foo bar", "__complete get", "help", "mk8s status", "create foo", "top x", "options"],
)
def test_plugins_and_words_that_are_no_commands(line: str) -> None:
    assert "plugins are not run here" in refused(line)


@pytest.mark.parametrize("line", ["rollout", "create secret", "set", "-n x", "auth -n x", "-- get"])
def test_half_commands(line: str) -> None:
    assert "is not a whole command" in refused(line)


@pytest.mark.parametrize(
    "line",
    ["exec -it web -- sh", "exec -ti web -- sh", "exec --tty web -- sh", "exec web -t=false -- sh",
     "run x --image=y -it", "debug web -it --image=x", "delete pod x -i",
     "run x --image=y --detach-keys=a"],
)  # fmt: skip
def test_terminals(line: str) -> None:
    assert "there is no terminal" in refused(line)


@pytest.mark.parametrize(
    "line", ["debug web --copy-to=copy", "debug web --copy-to copy --share-processes --replace"]
)
def test_debug_that_copies(line: str) -> None:
    assert "pods are not copied here" in refused(line)


@pytest.mark.parametrize(
    "line",
    [
        "set image deployment/web a=b --local",
        "label pods x a=b --local",
        "patch pod x --local=true",
    ],
)
def test_what_asks_no_cluster(line: str) -> None:
    assert "it asks no cluster" in refused(line)


@pytest.mark.parametrize("level", ["6", "8", "10", "99", "-1", "", "5x", "05", "٣"])
def test_levels_of_logging_that_print_requests(level: str) -> None:
    assert "a number up to 5" in refused(f"get pods --v={level}")


@pytest.mark.parametrize("line", ["create -f - --edit", "create -f - --windows-line-endings"])
def test_editors(line: str) -> None:
    assert "there is no editor" in refused(line)


@pytest.mark.parametrize(
    "line",
    ["get pods --brand-new-flag", "get pods --brand-new-flag=x", "get pods -Z", "get -test.v pods",
     "get pods --outpu json", "get pods --dry_run", "get pods --help", "get pods -h",
     "get pods ---x", "get pods --=x"],
)  # fmt: skip
def test_flags_that_are_not_known(line: str) -> None:
    assert "is no flag that is known of" in refused(line)


@pytest.mark.parametrize(
    "line", ["--brand-new-flag get pods", "-Z get", "create --foo deployment x"]
)
def test_unknown_flags_before_a_word_could_be_read_in_two_ways(line: str) -> None:
    assert "put flags behind the whole command" in refused(line)


@pytest.mark.parametrize("line", ["get pods -n", "get pods --namespace", "get pods -wn"])
def test_values_that_are_missing(line: str) -> None:
    assert "needs a value" in refused(line)


@pytest.mark.parametrize("value", ["", "yes", "TrUe", "on"])
def test_switches_that_are_neither_on_nor_off(value: str) -> None:
    assert refused(f"get pods --watch={value}") == "--watch: true or false"


def test_profiles_of_debug_that_none_is() -> None:
    assert "one of auto, " in refused("debug web --image=x --profile=heap")


def test_what_is_no_text_or_too_much_of_it() -> None:
    assert "write what stands behind kubectl" in refused_list([])
    assert "at most" in refused_list(["get", *["x"] * MOST_ARGUMENTS])
    assert "too long" in refused_list(["get", "x" * MOST_BYTES])
    assert "NUL" in refused_list(["get", "a\0b"])
    assert "no text" in refused_list(["get", "\ud800"])


def test_what_a_refusal_quotes_stays_short_and_printable() -> None:
    message = refused_list(["get", "--" + "\x1b[2J" * 100])
    assert message.isprintable()
    assert len(message) < 200
