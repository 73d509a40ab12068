"""The parts of the demo API that need no server: patches, apply, selectors, wire forms, shell."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.demo_api.catalogue import Catalogue
from mk8s_cli.demo_api.file_commands import TAR
from mk8s_cli.demo_api.files import Files
from mk8s_cli.demo_api.inlet import Inlet
from mk8s_cli.demo_api.objects import ApiError
from mk8s_cli.demo_api.patches import (
    apply,
    from_fields,
    json_patch,
    merge_patch,
    strategic_patch,
    to_fields,
    track,
)
from mk8s_cli.demo_api.protobuf import MAGIC, decode
from mk8s_cli.demo_api.reads import selector
from mk8s_cli.demo_api.shell import Shell
from mk8s_cli.demo_api.store import Store
from mk8s_cli.demo_api.views import age

Document = dict[str, Any]


def pod(*containers: Document) -> Document:
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}
    return {**head, "spec": {"containers": list(containers)}}


class TestStrategicPatch:
    def patched(self, item: Document, patch: Document) -> Document:
        kind = Catalogue().kinds["", "v1", "pods"]
        return strategic_patch(item, patch, kind.schema)

    def test_lists_merge_by_their_keys(self) -> None:
        env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
        item = pod({"name": "web", "image": "x:1", "env": env}, {"name": "side"})
        change = {"name": "web", "image": "x:2", "env": [{"name": "B", "value": "3"}]}
        found = self.patched(item, {"spec": {"containers": [change, {"name": "new"}]}})
        names = [entry["name"] for entry in found["spec"]["containers"]]
        assert names == ["web", "side", "new"]
        web = found["spec"]["containers"][0]
        assert web["image"] == "x:2"
        assert web["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]
        assert item["spec"]["containers"][0]["image"] == "x:1"

    def test_directives(self) -> None:
        item = pod({"name": "a"}, {"name": "b"}, {"name": "c"})
        patch = {
            "spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "b", "$patch": "delete"}],
            }
        }
        found = self.patched(item, patch)
        assert [entry["name"] for entry in found["spec"]["containers"]] == ["a", "c"]
        replaced = {"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}
        found = self.patched(item, replaced)
        assert found["spec"]["containers"] == [{"name": "z"}]
        whole = self.patched(item, {"spec": {"$patch": "replace", "hostname": "h"}})
        assert whole["spec"] == {"hostname": "h"}
        gone = self.patched(item, {"spec": {"$patch": "delete"}})
        assert gone["spec"] == {}

    def test_primitive_lists(self) -> None:
        item = pod()
        item["metadata"]["finalizers"] = ["a", "b"]
        patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
        found = self.patched(item, patch)
        assert found["metadata"]["finalizers"] == ["b", "c"]

    def test_retained_keys(self) -> None:
        volume = {"name": "v", "emptyDir": {}}
        item = pod()
        item["spec"]["volumes"] = [volume]
        change = {"name": "v", "configMap": {"name": "c"}, "$retainKeys": ["name", "configMap"]}
        found = self.patched(item, {"spec": {"volumes": [change]}})
        assert found["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "c"}}]


def test_merge_patch_example_of_rfc_7396() -> None:
    item = {"a": "b", "c": {"d": "e", "f": "g"}, "l": [1, 2]}
    assert merge_patch(item, {"a": "z", "c": {"f": None}, "l": [3]}) == {
        "a": "z",
        "c": {"d": "e"},
        "l": [3],
    }


@pytest.mark.parametrize("operations", [[{"op": "remove", "path": "/x"}], {"op": "add"}, ["x"], 7])
def test_json_patches_that_cannot_be_done(operations: Any) -> None:
    with pytest.raises(ApiError) as raised:
        json_patch({}, operations)
    assert raised.value.code in {400, 422}


def manager(name: str, operation: str = "Apply") -> Document:
    return {"manager": name, "operation": operation, "apiVersion": "v1"}


def settings(**data: str) -> Document:
    return {"kind": "ConfigMap", "metadata": {"name": "s", "labels": {"a": "b"}}, "data": data}


class TestServerSideApply:
    def apply(
        self, live: Document | None, config: Document, who: str, *, force: bool = False
    ) -> Document:
        merged = apply(live, config, manager(who), force=force) if live else config
        return track(live, merged, manager(who), config)

    def test_a_manager_removes_what_it_no_longer_wants(self) -> None:
        live = self.apply(None, settings(a="1", b="2"), "one")
        live = self.apply(live, settings(a="1"), "one")
        assert live["data"] == {"a": "1"}
        live = self.apply(live, {"kind": "ConfigMap", "metadata": {"name": "s"}}, "one")
        assert "data" not in live

    def test_what_another_manager_owns_stays(self) -> None:
        live = self.apply(None, settings(a="1"), "one")
        live = self.apply(live, settings(a="1", b="2"), "two")
        live = self.apply(live, settings(c="3"), "one")
        assert live["data"] == {"a": "1", "b": "2", "c": "3"}

    def test_conflicts_name_the_field_and_its_manager(self) -> None:
        live = self.apply(None, settings(a="1"), "one")
        with pytest.raises(ApiError, match="Apply failed with 1 conflict") as raised:
            self.apply(live, settings(a="2"), "two")
        (cause,) = raised.value.status["details"]["causes"]
        assert cause["message"] == 'conflict with "one" using v1'
        assert cause["field"] == ".data.a"
        forced = self.apply(live, settings(a="2"), "two", force=True)
        one, two = forced["metadata"]["managedFields"]
        assert "f:data" not in one["fieldsV1"]
        assert "f:data" in two["fieldsV1"]

    def test_a_list_is_one_field(self) -> None:
        live = self.apply(None, pod({"name": "a", "image": "x"}), "one")
        with pytest.raises(ApiError, match=r"\.spec\.containers"):
            self.apply(live, pod({"name": "a", "image": "y"}), "two")
        live = self.apply(live, pod({"name": "b"}), "one")
        assert live["spec"]["containers"] == [{"name": "b"}]

    def test_the_same_again_changes_nothing(self) -> None:
        live = self.apply(None, settings(a="1"), "one")
        live["metadata"]["managedFields"][0]["time"] = "long ago"
        assert self.apply(live, settings(a="1"), "one") == live

    def test_ordinary_writes_are_tracked(self) -> None:
        before = track(None, settings(a="1", b="2"), manager("m", "Update"))
        after = track(before, settings(a="2"), manager("n", "Update"))
        entries = {
            entry["manager"]: entry["fieldsV1"] for entry in after["metadata"]["managedFields"]
        }
        assert entries == {
            "m": {"f:metadata": {"f:labels": {"f:a": {}}}},
            "n": {"f:data": {"f:a": {}}},
        }
        assert track(after, after, manager("o", "Update")) == after


@given(
    st.sets(st.lists(st.sampled_from(["a", "b"]), min_size=3, max_size=3).map(tuple), max_size=8)
)
def test_fields_survive_the_round_trip(paths: set[tuple[str, ...]]) -> None:
    assert from_fields(to_fields(paths)) == paths


@pytest.mark.parametrize(
    ("labels", "fields", "wanted"),
    [
        ("app=web", "", True),
        ("app==web,tier!=back", "", True),
        ("app!=web", "", False),
        ("app in (web, api),tier notin (back)", "", True),
        ("app,!missing", "", True),
        ("missing", "", False),
        ("", "metadata.name=one,status.phase!=Pending", True),
        ("", "spec.unschedulable=false", True),
        ("", "metadata.name!=one", False),
    ],
)
def test_selectors(labels: str, fields: str, wanted: bool) -> None:
    item = {
        "metadata": {"name": "one", "labels": {"app": "web", "tier": "front"}},
        "status": {"phase": "Running"},
    }
    assert selector({"labelSelector": labels, "fieldSelector": fields})(item) is wanted


@pytest.mark.parametrize(
    ("labels", "fields"), [("a=b=c", ""), ("(", ""), ("", "name"), ("", "a~b")]
)
def test_selectors_that_do_not_parse(labels: str, fields: str) -> None:
    with pytest.raises(ApiError) as raised:
        selector({"labelSelector": labels, "fieldSelector": fields})
    assert raised.value.code == 400


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def envelope(api_version: bytes, kind: bytes, raw: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


class TestProtobuf:
    def test_an_object_with_every_sort_of_field(self) -> None:
        meta = (
            field(1, b"web") + field(11, field(1, b"app") + field(2, b"x")) + field(8, field(1, 60))
        )
        port = field(1, b"http") + field(3, 80) + field(4, field(1, 1) + field(3, b"www"))
        number = field(3, 81) + field(4, field(2, 90))
        raw = field(1, meta) + field(2, field(1, port) + field(1, number))
        assert decode(envelope(b"v1", b"Service", raw)) == {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "web",
                "labels": {"app": "x"},
                "creationTimestamp": "1970-01-01T00:01:00Z",
            },
            "spec": {
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "www"},
                    {"port": 81, "targetPort": 90},
                ]
            },
        }

    def test_embedded_structs_are_inlined(self) -> None:
        reference = field(1, field(1, b"name")) + field(2, b"key")
        source = field(3, reference)
        env = field(1, b"A") + field(3, source)
        container = field(1, b"c") + field(7, env)
        found = decode(envelope(b"v1", b"Pod", field(2, field(2, container))))
        entry = found["spec"]["containers"][0]["env"][0]
        assert entry == {
            "name": "A",
            "valueFrom": {"configMapKeyRef": {"name": "name", "key": "key"}},
        }

    def test_bytes_are_base64(self) -> None:
        raw = field(2, field(1, b"k") + field(2, b"\x00\xff"))
        assert decode(envelope(b"v1", b"Secret", raw))["data"] == {"k": "AP8="}

    def test_kinds_without_a_known_form_are_refused(self) -> None:
        with pytest.raises(ApiError) as raised:
            decode(envelope(b"example.com/v1", b"Widget", b""))
        assert raised.value.code == 415

    @given(st.binary(max_size=60))
    def test_any_bytes_are_an_object_or_a_refusal(self, raw: bytes) -> None:
        for body in (raw, MAGIC + raw, envelope(b"v1", b"Service", raw)):
            refused = 0
            try:
                decode(body)
            except ApiError as error:
                refused = error.code
            assert refused in {0, 400, 415}


class Recorded:
    """A shell whose output is kept."""

    def __init__(self, *stdin: bytes, tty: bool = False) -> None:
        self.shown = {"stdout": b"", "stderr": b""}
        inlet = Inlet()
        inlet.reader.feed_data(b"".join(stdin))
        inlet.end()
        environment = {"WHO": "me", "HOSTNAME": "pod"}
        self.shell = Shell(self.send, environment, tty, inlet.reader, Files())

    async def send(self, stream: str, raw: bytes) -> None:
        self.shown[stream] += raw


@pytest.mark.parametrize(
    ("command", "stdin", "stdout", "code"),
    [
        (["echo", "a", "b"], b"", b"a b\n", 0),
        (["sh", "-c", "echo $WHO; false"], b"", b"me\n", 1),
        (["/bin/sh", "-c", "echo a && exit 5; echo b"], b"", b"a\n", 5),
        (["sh"], b"echo one # said\nexit x\n", b"one\n", 2),
        (["sh"], b"false\n", b"", 1),
        (["sh"], b"echo no newline", b"no newline\n", 0),
        (["sh", "-c", "echo 'open"], b"", b"", 2),
        (["env"], b"", b"WHO=me\nHOSTNAME=pod\n", 0),
        (["true"], b"", b"", 0),
        (["exit"], b"", b"", 0),
        (["cat"], b"through", b"through", 0),
        (["mv"], b"", b"", 127),
        (["test", "-d", "/tmp"], b"", b"", 0),
        (["test", "-d", "/tmp/x"], b"", b"", 1),
        (["test", "-f", "/tmp"], b"", b"", 1),
        (["tar", "--help"], b"", f"{TAR}\n".encode(), 0),
    ],
)
async def test_the_shell(command: list[str], stdin: bytes, stdout: bytes, code: int) -> None:
    recorded = Recorded(*([stdin] if stdin else []))
    assert await recorded.shell.run(command) == code
    assert recorded.shown["stdout"] == stdout
    complains = code == 127 or command[-1].endswith("'open")
    assert bool(recorded.shown["stderr"]) is complains


async def test_the_terminal_edits_lines() -> None:
    recorded = Recorded(b"ab\x7fc", b"\r", b"x\x03", b"\x7f\x04", tty=True)
    assert await recorded.shell.run(["cat"]) == 0
    assert recorded.shown["stdout"] == b"ab\b \bc\r\nac\r\nx^C\r\n\r\n"


async def test_a_store_wakes_who_waits() -> None:
    store = Store()
    await store.changed(store.version, 0.0)
    assert store.events_after(store.version) == []
    store.create("things", {"metadata": {"name": "x"}})
    await store.changed(store.version - 1, 3600.0)
    assert [event.kind for event in store.events_after(store.version - 1)] == ["ADDED"]


AGES = {5: "5s", 130: "2m", 240: "4m", 1200: "20m", 4 * 3600: "4h", 3 * 86400: "3d"}


@pytest.mark.parametrize(("seconds", "shown"), AGES.items())
def test_ages_are_short(seconds: int, shown: str) -> None:
    moment = datetime.now(UTC) - timedelta(seconds=seconds, milliseconds=100)
    assert age(moment.isoformat()) == shown
    assert age(None) == "<unknown>"
