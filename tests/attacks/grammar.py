"""Queries that Kubernetes reads otherwise, lists that tell of what is hidden, forged tokens."""

import base64
import hashlib
import hmac
import json

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.attacks.attack import Attack, Check, must
from tests.attacks.stage import Stage
from tests.attacks.stub_answers import HIDDEN
from tests.attacks.wire import Attacker, World, ask

_PODS = "/api/v1/pods"


def _get(world: World, user: str, path: str, method: str = "GET") -> tuple[int, bytes]:
    status, _, body = ask(world, user, method, world.target(path).decode())
    return status, body


def many_pairs(stage: Stage) -> str:
    """CVE-2025-61726's other side: Go drops a query of more than 10,000 pairs."""
    world, told = stage.world(), []
    for name, query in {
        "10,000 empty pairs": "fieldSelector=metadata.name%3Dmine" + "&" * 10_001,
        "10,001 pairs": "fieldSelector=metadata.name%3Dmine" + "&a" * 10_001,
        "257 pairs": "fieldSelector=metadata.name%3Dmine" + "".join(f"&a{n}=1" for n in range(257)),
        "an empty pair": "fieldSelector=metadata.name%3Dmine&&watch=1",
    }.items():
        before = stage.seen()["count"]
        status, _ = _get(world, "narrow", f"/api/v1/namespaces/default/pods?{query}")
        must(status == 400, f"{name}: {status}")
        must(not stage.reached("metadata.name%3Dmine"), f"{name}: it reached the cluster")
        told.append(f"{name}: {status}")
        assert before is not None
    status, _ = _get(world, "dev", _PODS + "?dryRun=All" + "&a" * 10_001, "DELETE")
    must(status == 400, f"a deletecollection with dryRun=All: {status}")
    return "; ".join([*told, f"deletecollection with dryRun=All: {status}"])


_NUMBERS = ("%2B1", "1", "01", "0000000000000000000000001", "%2b1", "+1", "1%20", "1e0", "0x1")


def limits(stage: Stage) -> str:
    """Pages of a filtered list, by numbers that Go reads and others do not."""
    world, told = stage.world(), []
    for number in _NUMBERS:
        answers = []
        for name in (HIDDEN, "nothing-there"):
            query = f"?limit={number}&fieldSelector=metadata.name%3D{name}"
            answers.append(_get(world, "narrow", _PODS + query))
        (code, body), (other_code, other) = answers
        must(code == other_code, f"limit={number}: {code} for a hidden name, {other_code} for none")
        must(
            body == other, f"limit={number}: the answers about a hidden name and about none differ"
        )
        status, body = _get(world, "narrow", _PODS + f"?limit={number}")
        must(status in (200, 400), f"limit={number}: {status}")
        must(HIDDEN.encode() not in body, f"limit={number} shows a hidden name")
        asked = [it["target"] for it in stage.reached("limit=")[-1:]]
        told.append(f"{number}: {status}")
        raw = [it for it in asked if f"limit={number}&" in it or it.endswith(f"limit={number}")]
        must(number.isdigit() or not raw, f"limit={number} went on to the cluster as it came")
    return f"equal answers for hidden and missing names: {'; '.join(told)}"


def watches(stage: Stage) -> str:
    """Every spelling of watch is one: nobody with list alone gets a watch."""
    world, told = stage.world(), []
    for value in ("watch", "watch=", "watch=f", "watch=00", "watch=no", "%77atch=1", "watch=TRUE"):
        status, _ = _get(world, "narrow", f"/api/v1/namespaces/other/pods?{value}")
        must(status == 403, f"{value}: {status}")
        told.append(value)
    return f"403 for each of {', '.join(told)}"


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _forged(world: World) -> dict[str, str]:
    """Tokens that are none, made of a good one."""
    good = world.tokens["dev"]
    header, claims, signature = good.split(".")
    decoded = jwt.decode(good, options={"verify_signature": False})
    kid = jwt.get_unverified_header(good)["kid"]
    keys = json.loads(ask(world, None, "GET", "/.well-known/jwks.json")[2])
    key = jwt.PyJWK(keys["keys"][0]).key
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    hs = f"{_segment({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{claims}"
    mac = base64.urlsafe_b64encode(hmac.new(pem, hs.encode(), hashlib.sha256).digest())
    admin = _segment(decoded | {"email": "admin@example.com"})

    def signed(**headers: object) -> str:
        return jwt.encode(decoded, own, algorithm="RS256", headers={"kid": kid} | headers)

    return {
        "alg none": f"{_segment({'alg': 'none', 'kid': kid})}.{claims}.",
        "alg None, signed": f"{_segment({'alg': 'None', 'kid': kid})}.{claims}.{signature}",
        "HS256 with the public key": f"{hs}.{mac.rstrip(b'=').decode()}",
        "no signature": f"{header}.{claims}.",
        "another user under a good signature": f"{header}.{admin}.{signature}",
        "signed by somebody else": signed(),
        "jwk in the header": signed(jwk=keys["keys"][0]),
        "jku": signed(jku="https://evil.example.com/jwks.json"),
        "x5u": signed(x5u="https://evil.example.com/x"),
        "crit": signed(crit=["b64"]),
        "kid of a path": signed(kid="../../../dev/null"),
        "kid of SQL": signed(kid="' OR 1=1 --"),
        "RS512": jwt.encode(decoded, own, algorithm="RS512", headers={"kid": kid}),
        "trailing junk": good + "A",
        "a token in two pieces": f"{good} {good}",
        "three dots": good + ".x",
        "8 KB": "A" * 8000,
    }


def tokens(stage: Stage) -> str:
    """Forged, changed and foreign tokens."""
    world = stage.world()
    forged = _forged(world)
    for name, token in forged.items():
        attacker = Attacker(World(world.port, world.authority, {"x": token}, 0, ""), 30)
        connection = attacker.http2(source="127.0.9.5")
        number = connection.request(attacker.head("/api/v1/pods?container=forged", "x"))
        status = connection.wait(number, 5)
        connection.close()
        must(status in ("401", "400"), f"{name}: {status}")
    must(not stage.reached("forged"), "one of them reached the cluster")
    return f"{len(forged)} tokens refused: {', '.join(forged)}"


def canaries(stage: Stage) -> str:
    """Secrets in every place of a request: none is in the audit or in the programs' output."""
    world, canary = stage.world(), "canary7f3a9"
    queries = [
        f"access_token={canary}",
        f"%74oken={canary}",
        f"client-secret={canary}",
        f"apiKey={canary}",
        f"X-Amz-Signature={canary}",
        f"password={canary}",
        f"sessionid={canary}",
        f"jwt={canary}",
        f"url=https://user:{canary}@example.com/",
        f"authorization=Bearer%20{canary}",
        f"a=b&credential={canary}",
        f"id_token={canary}#x".replace("#", "%23"),
    ]
    for query in queries:
        _get(world, "dev", f"/api/v1/namespaces/default/services/x/proxy/?{query}")
        ask(world, None, "GET", f"/api/v1/pods?{query}")
        ask(world, None, "GET", f"/unknown?{query}")
    ask(world, None, "POST", "/auth/login", {"email": canary, "password": canary})
    ask(world, None, "POST", "/auth/refresh", {"refresh_token": canary})
    stage.row("services/x/proxy")
    stage.neighbour.wait_for(150, 5)
    found = [file.name for file in stage.audit.glob("*.jsonl") if canary in file.read_text()]
    outputs = {"central": stage.central.output} | {
        name: program.output for name, program in stage.agents.items()
    }
    found += [name for name, text in outputs.items() if canary in text]
    token = world.tokens["dev"].rpartition(".")[2]
    found += [
        f"a token in {it.name}" for it in stage.audit.glob("*.jsonl") if token in it.read_text()
    ]
    must(not found, f"the canary is in {', '.join(found)}")
    return f"{len(queries)} spellings in three places, a login and a refresh: 0 hits"


def hostile_text(stage: Stage) -> str:
    """Line ends, escapes and bidi marks: a row is a line of ASCII."""
    world = stage.world()
    agents = [
        "\x1b[31mred",
        "a\u202eb".encode().decode("latin-1"),
        '","user":{"username":"x"},"a":"',
        "x" * 8000,
    ]
    for agent in agents:
        target = world.target("/api/v1/namespaces/default/configmaps/hostile-text").decode()
        attacker = Attacker(world, 10)
        made = attacker.tls(source="127.0.9.6")
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\n"
        head += f"Authorization: Bearer {world.tokens['dev']}\r\n\r\n"
        made.send(head.encode("latin-1"))
        made.answer(5)
        made.close()
    stage.row("hostile-text")
    for file in stage.audit.glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            must(line.isascii() and b"\x1b" not in line, f"{file.name} has raw bytes")
            json.loads(line)
    return f"{len(agents)} user agents; every line of the journals is one row of plain ASCII"


ATTACKS: tuple[Attack, ...] = (
    Check("query-many-pairs", "1", "more pairs than Go reads", many_pairs),
    Check("query-limits", "6", "numbers that Go reads, to probe for hidden objects", limits),
    Check("query-watches", "C7", "watches by every spelling for one who may not", watches),
    Check("tokens-forged", "E1-E3", "forged, changed and foreign tokens", tokens),
    Check("audit-canaries", "18, A9", "secrets in queries, bodies and paths", canaries),
    Check(
        "audit-hostile-text",
        "E9, E14",
        "control bytes and JSON in what is written down",
        hostile_text,
    ),
)
