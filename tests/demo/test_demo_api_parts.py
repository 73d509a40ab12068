"""The parts of the demo API that need no server: patches, apply, selectors, wire forms, shell."""

import struct
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_cli.demo_api import spdy
from mk8s_cli.demo_api.apply import FieldManagement, Manager, from_fields, show, to_fields
from mk8s_cli.demo_api.catalogue import Catalogue, ResourceType
from mk8s_cli.demo_api.patches import StrategicPatch, json_patch, merge_patch
from mk8s_cli.demo_api.protobuf import MAGIC, decode
from mk8s_cli.demo_api.selectors import selector
from mk8s_cli.demo_api.shell import Shell
from mk8s_cli.demo_api.spdy_dictionary import DICTIONARY
from mk8s_cli.demo_api.status import ApiError
from mk8s_cli.demo_api.store import Store
from mk8s_cli.demo_api.tables import age

Document = dict[str, Any]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def schema_of(catalogue: Catalogue, group: str, name: str) -> Document:
    kind = catalogue.find(group, "v1", name)
    assert isinstance(kind, ResourceType)
    return catalogue.schema(kind)


def pod(*containers: Document) -> Document:
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}
    return {**head, "spec": {"containers": list(containers)}}


class TestStrategicPatch:
    def patched(self, catalogue: Catalogue, item: Document, patch: Document) -> Document:
        schema = schema_of(catalogue, "", "pods")
        return StrategicPatch(catalogue).apply(item, patch, schema)

    def test_lists_merge_by_their_keys(self, catalogue: Catalogue) -> None:
        env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
        item = pod({"name": "web", "image": "x:1", "env": env}, {"name": "side"})
        change = {"name": "web", "image": "x:2", "env": [{"name": "B", "value": "3"}]}
        found = self.patched(catalogue, item, {"spec": {"containers": [change, {"name": "new"}]}})
        names = [entry["name"] for entry in found["spec"]["containers"]]
        assert names == ["web", "side", "new"]
        web = found["spec"]["containers"][0]
        assert web["image"] == "x:2"
        assert web["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]
        assert item["spec"]["containers"][0]["image"] == "x:1"

    def test_directives(self, catalogue: Catalogue) -> None:
        item = pod({"name": "a"}, {"name": "b"}, {"name": "c"})
        patch = {
            "spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "b", "$patch": "delete"}],
            }
        }
        found = self.patched(catalogue, item, patch)
        assert [entry["name"] for entry in found["spec"]["containers"]] == ["c", "a"]
        replaced = {"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}
        found = self.patched(catalogue, item, replaced)
        assert found["spec"]["containers"] == [{"name": "z"}]
        whole = self.patched(catalogue, item, {"spec": {"$patch": "replace", "hostname": "h"}})
        assert whole["spec"] == {"hostname": "h"}
        gone = self.patched(catalogue, item, {"spec": {"$patch": "delete"}})
        assert gone["spec"] == {}

    def test_primitive_lists(self, catalogue: Catalogue) -> None:
        item = pod()
        item["metadata"]["finalizers"] = ["a", "b"]
        patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
        found = self.patched(catalogue, item, patch)
        assert found["metadata"]["finalizers"] == ["b", "c"]

    def test_retained_keys(self, catalogue: Catalogue) -> None:
        volume = {"name": "v", "emptyDir": {}}
        item = pod()
        item["spec"]["volumes"] = [volume]
        change = {"name": "v", "configMap": {"name": "c"}, "$retainKeys": ["name", "configMap"]}
        found = self.patched(catalogue, item, {"spec": {"volumes": [change]}})
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


class TestServerSideApply:
    def apply(
        self,
        catalogue: Catalogue,
        live: Document | None,
        config: Document,
        who: str,
        *,
        force: bool = False,
    ) -> Document:
        manager = Manager(who, "Apply", "v1")
        schema = schema_of(catalogue, "", "pods")
        return FieldManagement(catalogue).apply(live, config, schema, manager=manager, force=force)

    def test_a_manager_removes_what_it_no_longer_wants(self, catalogue: Catalogue) -> None:
        live = self.apply(catalogue, None, pod({"name": "a", "image": "x"}, {"name": "b"}), "one")
        live = self.apply(catalogue, live, pod({"name": "a"}), "one")
        assert live["spec"]["containers"] == [{"name": "a"}]

    def test_what_another_manager_owns_stays(self, catalogue: Catalogue) -> None:
        live = self.apply(catalogue, None, pod({"name": "a"}), "one")
        live = self.apply(catalogue, live, pod({"name": "a", "image": "x"}), "two")
        live = self.apply(catalogue, live, pod({"name": "b"}), "one")
        names = {entry["name"] for entry in live["spec"]["containers"]}
        assert names == {"a", "b"}

    def test_conflicts_name_the_field_and_its_manager(self, catalogue: Catalogue) -> None:
        live = self.apply(catalogue, None, pod({"name": "a", "image": "x"}), "one")
        with pytest.raises(ApiError, match="Apply failed with 1 conflict") as raised:
            self.apply(catalogue, live, pod({"name": "a", "image": "y"}), "two")
        (cause,) = raised.value.details["causes"]
        assert cause["message"] == 'conflict with "one" using v1'
        assert cause["field"] == '.spec.containers[name="a"].image'
        forced = self.apply(catalogue, live, pod({"name": "a", "image": "y"}), "two", force=True)
        one, two = forced["metadata"]["managedFields"]
        assert "f:image" not in str(one["fieldsV1"])
        assert "f:image" in str(two["fieldsV1"])

    def test_ordinary_writes_are_tracked(self, catalogue: Catalogue) -> None:
        schema, fields = schema_of(catalogue, "", "pods"), FieldManagement(catalogue)
        before = fields.track(
            None, pod({"name": "a", "image": "x"}), schema, Manager("m", "Update", "v1")
        )
        after = pod({"name": "a", "image": "y"})
        after = fields.track(before, after, schema, Manager("n", "Update", "v1"))
        entries = {
            entry["manager"]: str(entry["fieldsV1"]) for entry in after["metadata"]["managedFields"]
        }
        assert "f:image" in entries["n"]
        assert "f:image" not in entries["m"]
        same = fields.track(after, after, schema, Manager("o", "Update", "v1"))
        assert same == after

    def test_ports_without_protocol_are_tcp(self, catalogue: Catalogue) -> None:
        config = pod({"name": "a", "ports": [{"containerPort": 80, "name": "x"}]})
        live = self.apply(catalogue, None, config, "one")
        wanted = pod({"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]})
        live = self.apply(catalogue, live, wanted, "one")
        assert live["spec"]["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', 'v:"y"'])


@given(st.sets(st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple), max_size=8))
def test_fields_survive_the_round_trip(paths: set[tuple[str, ...]]) -> None:
    assert from_fields(to_fields(paths)) == paths


def test_paths_are_shown_as_kubectl_knows_them() -> None:
    assert show(("f:metadata", "f:finalizers", 'v:"x"')) == '.metadata.finalizers[="x"]'


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
    assert selector(labels, fields)(item) is wanted


@pytest.mark.parametrize(
    ("labels", "fields"), [("a=b=c", ""), ("(", ""), ("", "name"), ("", "a~b")]
)
def test_selectors_that_do_not_parse(labels: str, fields: str) -> None:
    with pytest.raises(ApiError) as raised:
        selector(labels, fields)
    assert raised.value.code == 400


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def envelope(api_version: bytes, kind: bytes, raw: bytes) -> bytes:
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)


class TestProtobuf:
    def test_an_object_with_every_sort_of_field(self, catalogue: Catalogue) -> None:
        meta = (
            field(1, b"web") + field(11, field(1, b"app") + field(2, b"x")) + field(8, field(1, 60))
        )
        port = field(1, b"http") + field(3, 80) + field(4, field(1, 1) + field(3, b"www"))
        number = field(3, 81) + field(4, field(2, 90))
        raw = field(1, meta) + field(2, field(1, port) + field(1, number))
        assert decode(catalogue, envelope(b"v1", b"Service", raw)) == {
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

    def test_embedded_structs_are_inlined(self, catalogue: Catalogue) -> None:
        reference = field(1, field(1, b"name")) + field(2, b"key")
        source = field(3, reference)
        env = field(1, b"A") + field(3, source)
        container = field(1, b"c") + field(7, env)
        found = decode(catalogue, envelope(b"v1", b"Pod", field(2, field(2, container))))
        entry = found["spec"]["containers"][0]["env"][0]
        assert entry == {
            "name": "A",
            "valueFrom": {"configMapKeyRef": {"name": "name", "key": "key"}},
        }

    def test_bytes_are_base64(self, catalogue: Catalogue) -> None:
        raw = field(2, field(1, b"k") + field(2, b"\x00\xff"))
        assert decode(catalogue, envelope(b"v1", b"Secret", raw))["data"] == {"k": "AP8="}

    def test_kinds_without_a_known_form_are_refused(self, catalogue: Catalogue) -> None:
        with pytest.raises(ApiError) as raised:
            decode(catalogue, envelope(b"example.com/v1", b"Widget", b""))
        assert raised.value.code == 415

    @given(st.binary(max_size=60))
    def test_any_bytes_are_an_object_or_a_refusal(self, raw: bytes) -> None:
        known = TestProtobuf.known = getattr(TestProtobuf, "known", None) or Catalogue()
        for body in (raw, MAGIC + raw, envelope(b"v1", b"Service", raw)):
            refused = 0
            try:
                decode(known, body)
            except ApiError as error:
                refused = error.code
            assert refused in {0, 400, 415}


class SpdyClient:
    """The client's half, enough to talk to the server's."""

    def __init__(self) -> None:
        self.deflate = zlib.compressobj(zdict=DICTIONARY)

    def control(self, kind: int, body: bytes) -> bytes:
        return struct.pack(">HHB", 0x8003, kind, 0) + len(body).to_bytes(3, "big") + body

    def open(self, stream: int, **headers: str) -> bytes:
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            block += b"".join(
                struct.pack(">I", len(word)) + word.encode() for word in (name, value)
            )
        packed = self.deflate.compress(block) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        return self.control(spdy.SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + packed)


class TestSpdy:
    def test_frames_in_any_pieces(self) -> None:
        client = SpdyClient()
        ping = client.control(spdy.PING, struct.pack(">I", 1))
        raw = client.open(1, StreamType="Error") + client.open(3, streamtype="stdin") + ping
        raw += struct.pack(">IB", 3, spdy.FIN) + (2).to_bytes(3, "big") + b"hi"
        raw += client.control(spdy.RST_STREAM, struct.pack(">II", 3, 5))
        raw += client.control(spdy.SETTINGS, struct.pack(">I", 0))
        raw += client.control(spdy.GOAWAY, struct.pack(">II", 3, 0))
        wanted = [
            spdy.Opened(1, {"streamtype": "error"}),
            spdy.Opened(3, {"streamtype": "stdin"}),
            spdy.Pinged(ping),
            spdy.Received(3, b"hi", True),
            spdy.Closed(3),
            spdy.Closed(0),
        ]
        assert list(spdy.SpdyServer().feed(raw)) == wanted
        server = spdy.SpdyServer()
        single = [event for byte in raw for event in server.feed(bytes([byte]))]
        assert single == wanted

    def test_replies(self) -> None:
        server = spdy.SpdyServer()
        reply = server.accept(5)
        assert struct.unpack(">HH", reply[:4]) == (0x8003, spdy.SYN_REPLY)
        inflate = zlib.decompressobj(zdict=DICTIONARY)
        assert inflate.decompress(reply[12:]) == struct.pack(">I", 0)
        assert server.data(5, b"ab", end=True) == b"\x00\x00\x00\x05\x01\x00\x00\x02ab"

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x00\x00\x00\x01\x00\xff\xff\xff",  # a frame of 16 MiB
            b"\x80\x02\x00\x01\x00\x00\x00\x04\x00\x00\x00\x01",  # SPDY/2
            b"\x80\x03\x00\x01\x00\x00\x00\x0c" + bytes(12),  # a header block that is none
        ],
    )
    def test_violations_end_the_connection(self, raw: bytes) -> None:
        with pytest.raises(spdy.SpdyError):
            list(spdy.SpdyServer().feed(raw))

    @given(st.binary(max_size=80))
    def test_any_bytes_are_events_or_a_violation(self, raw: bytes) -> None:
        for body in (raw, b"\x80\x03" + raw):
            try:
                list(spdy.SpdyServer().feed(body))
            except spdy.SpdyError:
                continue


class Recorded:
    """Streams in memory."""

    def __init__(self, *stdin: bytes) -> None:
        self.stdin = list(stdin)
        self.stdout = self.stderr = b""

    async def read(self) -> bytes:
        return self.stdin.pop(0) if self.stdin else b""

    async def write(self, raw: bytes) -> None:
        self.stdout += raw

    async def error(self, raw: bytes) -> None:
        self.stderr += raw


@pytest.mark.parametrize(
    ("command", "stdin", "stdout", "code"),
    [
        (["echo", "a", "b"], b"", b"a b\n", 0),
        (["sh", "-c", "echo $WHO; false"], b"", b"me\n", 1),
        (["/bin/sh", "-c", "echo a && exit 5; echo b"], b"", b"a\n", 5),
        (["sh"], b"echo one # said\nexit x\n", b"one\n", 2),
        (["sh"], b"echo no newline", b"no newline\n", 0),
        (["sh", "-c", "echo 'open"], b"", b"", 2),
        (["env"], b"", b"WHO=me\nHOSTNAME=pod\n", 0),
        (["hostname"], b"", b"pod\n", 0),
        (["whoami"], b"", b"root\n", 0),
        (["true"], b"", b"", 0),
        (["exit"], b"", b"", 0),
        (["cat"], b"through", b"through", 0),
        (["rm"], b"", b"", 127),
    ],
)
async def test_the_shell(command: list[str], stdin: bytes, stdout: bytes, code: int) -> None:
    streams = Recorded(*([stdin] if stdin else []))
    shell = Shell(streams, {"WHO": "me", "HOSTNAME": "pod"}, tty=False)
    assert await shell.run(command) == code
    assert streams.stdout == stdout
    complains = code == 127 or command[-1].endswith("'open")
    assert bool(streams.stderr) is complains


async def test_the_terminal_edits_lines() -> None:
    streams = Recorded(b"ab\x7fc", b"\r", b"\x7f\x04")
    shell = Shell(streams, {}, tty=True)
    assert await shell.run(["cat"]) == 0
    assert streams.stdout == b"ab\b \bc\r\nac\r\n\r\n"


async def test_a_store_wakes_who_waits() -> None:
    store = Store()
    await store.changed(store.version, 0.0)
    assert store.events_after(store.version) == []
    store.create("things", {"metadata": {"name": "x"}})
    await store.changed(store.version - 1, 3600.0)
    assert [event.kind for event in store.events_after(100)] == ["ADDED"]


AGES = {5: "5s", 130: "2m10s", 240: "4m", 1200: "20m", 4 * 3600: "4h", 3 * 86400: "3d"}


@pytest.mark.parametrize(("seconds", "shown"), AGES.items())
def test_ages_are_short(seconds: int, shown: str) -> None:
    moment = datetime.now(UTC) - timedelta(seconds=seconds, milliseconds=100)
    assert age(moment.isoformat()) == shown
    assert age(None) == "<unknown>"
