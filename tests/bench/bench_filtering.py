"""Filtering a list of 5,000 pods of about 10 KB: speed, and the memory that it takes.

    python -m tests.bench.bench_filtering

The list comes in frames of 16 KiB; one object in ten is visible. `parse` is what `json.loads`, or
rather the faster orjson, would need for the whole document, if there were the memory for it.
"""

import time
import tracemalloc
from collections.abc import Iterator

import orjson

from mk8s_proxy.answers.filtering.list_filter import ListFilter
from mk8s_proxy.answers.filtering.objects import ObjectJudge

COUNT = 5000
FRAME = 16 * 1024


def pod(number: int) -> bytes:
    """A pod as kube-apiserver writes it: managed fields, two containers, conditions."""
    fields = {f"f:{key}": {f"f:{inner}": {} for inner in range(6)} for key in range(20)}
    container = {
        "name": "app",
        "image": "registry.example.com/team/app:1.2.3",
        "env": [{"name": f"SETTING_{n}", "value": f"value of it {n}"} for n in range(30)],
        "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}},
        "volumeMounts": [{"name": f"v{n}", "mountPath": f"/var/run/{n}"} for n in range(6)],
    }
    document = {
        "metadata": {
            "name": f"app-{number}",
            "namespace": "seen" if number % 10 == 0 else "hidden",
            "uid": "0d1f6a3c-8a39-4f0a-9c0b-7d1f6a3c8a39",
            "labels": {f"example.com/label-{n}": "some value" for n in range(10)},
            "annotations": {"last-applied": '{"kind":"Pod","spec":{}}' * 20},
            "managedFields": [{"manager": "kubectl", "fieldsType": "FieldsV1", "fieldsV1": fields}],
        },
        "spec": {"containers": [container, container], "nodeName": "node-17", "priority": 0},
        "status": {
            "conditions": [{"type": f"C{n}", "status": "True", "message": "m"} for n in range(6)],
            "podIP": "10.1.2.3",
        },
    }
    return orjson.dumps(document)


def frames() -> Iterator[bytes]:
    """The list as a tunnel delivers it, made as it goes."""
    buffer = bytearray(b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[')
    for number in range(COUNT):
        buffer += pod(number) + (b"," if number < COUNT - 1 else b"]}")
        while len(buffer) >= FRAME:
            yield bytes(buffer[:FRAME])
            del buffer[:FRAME]
    yield bytes(buffer)


def passed_by(data: Iterator[bytes]) -> int:
    """Bytes that a user who sees one namespace gets."""
    judge = ObjectJudge(lambda namespace, name: namespace == "seen")
    stage = ListFilter(judge, lambda token: token)
    return sum(len(stage.feed(piece, end=False)) for piece in data) + len(stage.feed(b"", end=True))


def main() -> None:
    """Print both figures."""
    whole = list(frames())
    size = sum(map(len, whole))
    started = time.process_time()
    passed = passed_by(iter(whole))
    seconds = time.process_time() - started
    document = b"".join(whole)
    started = time.process_time()
    orjson.loads(document)
    parsing = time.process_time() - started
    del whole, document
    tracemalloc.start()
    passed_by(frames())
    peak = tracemalloc.get_traced_memory()[1]
    print(f"list      {COUNT} objects, {size / 1e6:.1f} MB, {passed / 1e6:.1f} MB visible")
    print(f"filter    {seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s, one core")
    print(f"parse     {parsing:.2f} s, {size / parsing / 1e6:.0f} MB/s, all in memory")
    print(f"memory    {peak / 1e6:.2f} MB at most")


if __name__ == "__main__":
    main()
