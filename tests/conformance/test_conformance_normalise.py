"""The conformance runner hides what is volatile, and nothing else."""

import json

import pytest

from tests.conformance.normalise import RULES, normalise

CHOSEN = {"way0-abc": "SPACE", "https://localhost:41000/k8s/prod": "SERVER"}
CREDENTIAL = "authentication.kubernetes.io/credential-id"
EXTRA = {CREDENTIAL: [f"X509SHA256={'a' * 64}"]}
EXTRA_LINES = json.dumps(EXTRA, indent=6)
EQUAL = [
    ("I1122 15:59:10.003727   22503 loader.go:379] Config loaded\nweb", "web"),
    ('E1122 15:59:10.0 7 memcache.go:265] "x"', 'E1122 16:00:00.1 88 memcache.go:300] "x"'),
    ('E1122 15:59:10.0 7 x.go:2] "Unhandled Error" err="websocket: close sent"\nweb', "web"),
    ("created: 2026-11-22T15:59:10Z", "created: 2026-11-22T16:01:02.123456Z"),
    ("Start: Sun, 22 Nov 2026 15:59:10 +0000", "Start: Mon, 23 Nov 2026 00:00:01 +0000"),
    ("LAST: Sun Nov 22 15:59:10 2026", "LAST: Mon Nov  2 00:00:01 2026"),
    ("web 1/1 Running 0 5s", "web   1/1   Running   0   2m10s"),
    ("AGE <unknown>", "AGE <invalid>"),
    ('"uid": "0b6a3a5c-0b6a-4b6a-8b6a-0123456789ab"',
     '"uid": "1b6a3a5c-0b6a-4b6a-8b6a-0123456789ab"'),
    ('"uid": "7087862d-3f9e-4b6b-994d-70878c92a0af"',
     '"uid": "abcdef12-3f9e-4b6b-994d-70878c92a0af"'),
    ("involvedObject.uid%3D0b6a3a5c-0b6a-4b6a-8b6a-0123456789ab",
     "involvedObject.uid%3Dabcdefab-0b6a-4b6a-8b6a-0123456789ab"),
    (f"Username dev\nUID u1\nGroups [a]\nExtra: {CREDENTIAL}   [X509SHA256={'a' * 64}]",
     "Username   dev\nGroups   [a]"),
    ('{\n  "userInfo": {\n    "extra": ' + EXTRA_LINES + ',\n    "username": "dev"\n  }\n}',
     '{\n  "userInfo": {\n    "uid": "u1",\n    "username": "dev"\n  }\n}'),
    ('{"groups": [],\n "extra": ' + EXTRA_LINES + "\n}", '{"groups": []\n}'),
    ('{"username": "dev", "uid": "u1", "groups": []}', '{"username": "dev", "groups": []}'),
    (f'dev ["a"] {json.dumps(EXTRA)} Approved', 'dev ["a"]  Approved'),
    (json.dumps({"f:resources": {".": {}, "f:limits": {".": {}, "f:memory": {}}}}, indent=1),
     json.dumps({"f:resources": {}}, indent=1)),
    ('"resourceVersion": "17"', '"resourceVersion": "18"'),
    ("?resourceVersion=17&watch=true", "?resourceVersion=18&watch=true"),
    ('"continue":"eyJ2IjoibWV0YS5rOHMuaW8"', '"continue":"eyJ2IjoibWV0YS5rOHMuabc"'),
    ("watch=true&timeoutSeconds=512", "watch=true&timeoutSeconds=399"),
    ("containerd://" + "a" * 64, "containerd://" + "b" * 64),
    ("IP: 10.200.3.14", "IP: 10.200.3.9"),
    ('"serverAddress":"127.0.0.1:20262"', '"serverAddress":"10.1.2.3:6443"'),
    ("web.17a9b3c4d5e6f708", "web.17a9b3c4d5e6f709"),
    ("serving-5d4f8c7b9d-x2vqz", "serving-5d4f8c7b9d-zzzzz"),
    ("configmap/generated-x2vqz", "configmap/generated-zzzzz"),
    ("Forwarding from 127.0.0.1:40001", "Forwarding from 127.0.0.1:41234"),
    ("GET https://localhost:41000/k8s/prod/api", "GET SERVER/api"),
    ("namespace: way0-abc", "namespace: SPACE"),
    ("NAME   AGE\na      b  ", "NAME AGE\na b"),
]  # fmt: skip
DIFFERENT = [
    ("web 1/1 Running", "web 0/1 Running"),
    ("code 404", "code 403"),
    ('pods "web" not found', 'pods "web" is forbidden'),
    ("replicas: 2", "replicas: 3"),
    ("v1.20.2", "v1.20.3"),
    ("W1122 15:59:10.0 7 warnings.go:70] old", "W1122 15:59:10.0 7 warnings.go:70] new"),
    ("port: 8080", "port: 8081"),
    ("limit=500", "limit=250"),
    ("a\nb", "b\na"),
    ('"f:limits": {".": {}, "f:memory": {}}', '"f:limits": {}'),
    ('{"uid": "u1", "name": "dev"}', '{"uid": "u2", "name": "dev"}'),
    ("Extra: team [a]", "Extra: team [b]"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_what_is_volatile_is_hidden(one: str, other: str) -> None:
    assert normalise(one, CHOSEN) == normalise(other, CHOSEN)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_nothing_else_is_hidden(one: str, other: str) -> None:
    assert normalise(one, CHOSEN) != normalise(other, CHOSEN)


def test_every_rule_has_an_example() -> None:
    text = "\n".join(example for pair in EQUAL for example in pair)
    assert [rule.what for rule in RULES if not rule.pattern.search(text)] == []
