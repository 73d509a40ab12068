"""The demo's API server and a real one are asked the same: code, form and reasons are the same."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from mk8s_proxy.kube import cbor
from tests.support.api_places import Answer, Place, both

pytestmark = pytest.mark.kube

ASKED = yaml.safe_load(Path(__file__).with_name("as_real.yaml").read_text())
CBOR, YAML = "application/cbor", "application/yaml"
FROM = {"Origin": "http://x"}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
SOCKETS: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "without an origin": ("{maps}", [], {}),
    "with an origin that is none": ("{maps}", [], {"Origin": "null"}),
    "text": ("{maps}", [], FROM),
    "a protocol": ("{maps}", ["base64.binary.k8s.io"], FROM),
    "two protocols": ("{maps}", ["one", "two"], FROM),
    "cbor": ("{maps}", [], {**FROM, "Accept": CBOR}),
    "yaml": ("{maps}", [], {**FROM, "Accept": YAML}),
    "a table": ("{maps}", [], {**FROM, "Accept": TABLE}),
    "custom": ("{widgets}", [], FROM),
}
"""Path, offered protocols and headers of watches over WebSocket."""
UNLIKE = {
    "managedFields",
    "annotations",
    "finalizers",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "remainingItemCount",
}
"""Metadata that controllers of the real one, or chance, add."""
SELF_DESCRIBED = b"\xd9\xd9\xf7"


def each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def cases(group: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Method with path, and how it is asked, of a group of `as_real.yaml`."""
    for case in ASKED[group]:
        for ask, accept in itertools.product(each(case["ask"]), each(case.get("accept", "*/*"))):
            yield ask, {**case, "accept": accept}


async def prepare(*places: Place) -> None:
    """Makes what every group begins with."""
    for place in places:
        for asked, case in cases("there"):
            code, _, body, _ = await place.ask(asked, case)
            assert code == 201, body


async def events(place: Place, path: str, protocols: list[str], headers: dict[str, str]) -> Any:
    """What a watch over WebSocket shows first, or the code with which it is refused."""
    url = f"{place.at(path)}?watch=1&fieldSelector=metadata.name%3Dthere"
    try:
        async with place.session.ws_connect(url, protocols=protocols, headers=headers) as socket:
            message = await socket.receive(30)
            is_text = message.type is aiohttp.WSMsgType.TEXT
            # Go marks the object within the event, too, as what is CBOR.
            raw = message.data if is_text else message.data.replace(SELF_DESCRIBED, b"")
            event = json.loads(raw) if is_text else cbor.decode(raw)
            shown = event["object"]
            return socket.protocol, is_text, event["type"], shown["kind"], shown["apiVersion"]
    except aiohttp.WSServerHandshakeError as error:
        return error.status


def shape(answer: Answer) -> Any:
    """What must be the same of two answers."""
    code, media, body, warnings = answer
    if media.startswith("text/plain"):
        return code, media, body
    try:
        document = cbor.decode(body) if "cbor" in media else yaml.safe_load(body or b"{}")
    except (yaml.YAMLError, cbor.CborError):
        return code, media, "unreadable"
    found = [document.get(key) for key in ("kind", "apiVersion")]
    if document.get("kind") == "Status":
        details = {**document.get("details", {}), "uid": None}
        causes = [(it.get("reason"), it.get("field")) for it in details.pop("causes", [])]
        return code, media, found, document.get("reason"), details, causes
    items = document.get("items", document.get("rows", []))
    kinds = {(item.get("kind"), item.get("apiVersion")) for item in items}
    keys = sorted(document.get("metadata", {}).keys() - UNLIKE)
    return code, media, warnings, found, body.startswith(b"{\n"), keys, kinds


@pytest.mark.parametrize("group", [group for group in ASKED if group not in {"widget", "there"}])
async def test_answers_are_those_of_a_real_one(kube_cluster: Path, group: str) -> None:
    differences = []
    async with both(kube_cluster) as (real, demo):
        await prepare(real, demo)
        for asked, case in cases(group):
            wanted, seen = await real.ask(asked, case), await demo.ask(asked, case)
            if shape(wanted) != shape(seen):
                shown = [str(it) for it in (shape(wanted), shape(seen), wanted[2][:300])]
                differences.append("\n  ".join([f"{asked} {case}", *shown]))
    assert not differences, "\n".join(differences)


async def test_watches_over_websocket_are_those_of_a_real_one(kube_cluster: Path) -> None:
    async with both(kube_cluster) as (real, demo):
        await prepare(real, demo)
        wanted = {name: await events(real, *how) for name, how in SOCKETS.items()}
        assert {name: await events(demo, *how) for name, how in SOCKETS.items()} == wanted
