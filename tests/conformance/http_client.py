"""Plain HTTP/1.1 by hand: status, headers and body as they are on the wire.

What libraries hide shows here: media types, encodings, warnings, methods that are not allowed,
upgrades. Credentials of the place are used as they are: client certificate, static token, or the
token that the exec plugin prints.
"""

import base64
import gzip
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.conformance import manifests
from tests.conformance.outcome import Outcome
from tests.conformance.place import Place

UNCOMPARED = {"date", "content-length", "audit-id", "connection", "keep-alive"}
"""Headers of one message or hop; lengths follow from bodies, which are compared."""
FRAMING = "transfer-encoding"
"""Each hop frames as it likes, except where there is no body to frame."""
Headers = dict[str, str]
OPERATIONS: dict[str, Callable[["HttpSession"], None]] = {}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@dataclass(slots=True)
class HttpSession:
    """One run at one place."""

    place: Place
    namespace: str
    folder: Path
    outcomes: list[Outcome] = field(default_factory=list)
    _bearer: str = ""

    def perform(self, key: str) -> list[Outcome]:
        """Do one operation; its steps."""
        self.outcomes = []
        OPERATIONS[key](self)
        return self.outcomes

    def close(self) -> None:
        """Nothing stays."""

    def __call__(
        self,
        method: str,
        target: str,
        headers: Headers | None = None,
        body: bytes | str = b"",
        *,
        show: Callable[[bytes], str] | None = None,
        noted: bool = True,
    ) -> bytes:
        """One request on a connection of its own; the body of its answer."""
        cluster = self.place.cluster
        server = urlsplit(cluster["server"])
        context = self._context(cluster)
        assert server.hostname
        connection = http.client.HTTPSConnection(
            server.hostname, server.port, context=context, timeout=30
        )
        try:
            given = {**self._credential(), **(headers or {})}
            connection.request(method, server.path + target, body or None, given)
            answer = connection.getresponse()
            content = b"" if answer.status == 101 else answer.read()
        finally:
            connection.close()
        if noted:
            self._note(f"{method} {target[:90]}", answer, content, show)
        return content

    def _note(
        self,
        step: str,
        answer: http.client.HTTPResponse,
        content: bytes,
        show: Callable[[bytes], str] | None,
    ) -> None:
        named = sorted(
            f"{name.lower()}: {value}"
            for name, value in answer.getheaders()
            if name.lower() not in UNCOMPARED
            and (name.lower() != FRAMING or answer.status in (101, 204))
        )
        text = show(content) if show else content.decode("latin-1")
        code = answer.status if answer.status >= 400 else 0
        self.outcomes.append(Outcome(step, code, text, "\n".join(named), (str(answer.status),)))

    def _context(self, cluster: Mapping[str, str]) -> ssl.SSLContext:
        if "certificate-authority" in cluster:
            context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        else:
            authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
            context = ssl.create_default_context(cadata=authority)
        user = self.place.user
        if "client-certificate-data" in user:
            pem = self.folder / "client.pem"
            parts = (user["client-certificate-data"], user["client-key-data"])
            pem.write_bytes(b"\n".join(base64.b64decode(part) for part in parts))
            context.load_cert_chain(pem)
        return context

    def _credential(self) -> Headers:
        user = self.place.user
        if "exec" in user and not self._bearer:
            plugin = user["exec"]
            environment = {entry["name"]: entry["value"] for entry in plugin.get("env", [])}
            told = subprocess.run(
                [plugin["command"], *plugin["args"]],
                env={**os.environ, **self.place.environment, **environment},
                capture_output=True,
                check=True,
                timeout=30,
            ).stdout
            self._bearer = json.loads(told)["status"]["token"]
        token = self._bearer or user.get("token", "")
        return {"Authorization": f"Bearer {token}"} if token else {}

    @property
    def here(self) -> str:
        """The path of the namespace."""
        return f"/api/v1/namespaces/{self.namespace}"


def operation(key: str) -> Callable[[Callable[[HttpSession], None]], Callable[[HttpSession], None]]:
    """Register the operation of a row."""

    def register(function: Callable[[HttpSession], None]) -> Callable[[HttpSession], None]:
        OPERATIONS[key] = function
        return function

    return register


def sizes(content: bytes) -> str:
    """For bodies whose bytes hold versions: only that there are some."""
    return "some" if content else "none"


@operation("get-json")
def get_json(h: HttpSession) -> None:
    h("GET", f"{h.here}/pods/quiet")
    h("GET", f"{h.here}/pods", {"Accept": "application/yaml"})
    h("GET", f"{h.here}/pods/quiet", {"Accept": "application/json;stream=watch, */*"})
    h("GET", f"{h.here}/pods?pretty=true&labelSelector=app%3Dquiet")


@operation("get-table")
def get_table(h: HttpSession) -> None:
    h("GET", f"{h.here}/pods?labelSelector=app%3Dquiet", {"Accept": TABLE})
    metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    h("GET", f"{h.here}/pods?labelSelector=app%3Dquiet", {"Accept": metadata})


@operation("protobuf")
def protobuf(h: HttpSession) -> None:
    accept = {"Accept": "application/vnd.kubernetes.protobuf"}
    h("GET", f"{h.here}/pods/quiet", accept, show=sizes)
    made = h("GET", f"{h.here}/pods/absent", accept, show=lambda body: body[:5].hex())
    assert made
    openapi = {"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}
    h("GET", "/openapi/v2", openapi, show=sizes)


CREATED = bytes.fromhex(
    "a46a61706956657273696f6e627631646b696e6469436f6e6669674d6170686d65746164617461a1"
    "646e616d6567636f6e636973656464617461a163736b7964626c7565"
)
"""A ConfigMap called `concise` with the sky blue, in CBOR (RFC 8949)."""
APPLIED = bytes.fromhex(
    "a36a61706956657273696f6e627631646b696e6469436f6e6669674d61706464617461a163736b796467726579"
)
"""What makes its sky grey."""


@operation("cbor")
def cbor(h: HttpSession) -> None:
    named = f"{h.here}/configmaps/concise"
    h("POST", f"{h.here}/configmaps", {"Content-Type": "application/cbor"}, CREATED, show=sizes)
    apply = {"Content-Type": "application/apply-patch+cbor"}
    h("PATCH", f"{named}?fieldManager=hand", apply, APPLIED, show=sizes)
    h("GET", named, {"Accept": "application/cbor"}, show=sizes)
    h("GET", named, {"Accept": "application/cbor, application/json;q=0.9"}, show=sizes)
    h("DELETE", named, noted=False)


@operation("token-review")
def token_review(h: HttpSession) -> None:
    for version in ("v1", "v1beta1"):
        target = f"/apis/authentication.k8s.io/{version}/tokenreviews"
        head = {"kind": "TokenReview", "apiVersion": f"authentication.k8s.io/{version}"}
        for spec in ({"token": "not.a.token"}, {"token": ""}, {}):
            body = json.dumps({**head, "spec": spec})
            h("POST", target, {"Content-Type": "application/json"}, body)
        body = f"kind: TokenReview\napiVersion: {head['apiVersion']}\nspec: {{token: opaque}}\n"
        yaml = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
        h("POST", target, yaml, body)


@operation("gzip")
def compressed(h: HttpSession) -> None:
    large = json.dumps(manifests.config_map("large", {"text": "abcdefgh" * 50_000}))
    h("POST", f"{h.here}/configmaps", {"Content-Type": "application/json"}, large, noted=False)

    def unpacked(body: bytes) -> str:
        return gzip.decompress(body).decode()

    h("GET", f"{h.here}/configmaps/large", {"Accept-Encoding": "gzip"}, show=unpacked)
    h("GET", f"{h.here}/configmaps/large", show=sizes)
    h("DELETE", f"{h.here}/configmaps/large", noted=False)


@operation("patch")
def patch(h: HttpSession) -> None:
    kind = {"Content-Type": "application/json"}
    body = json.dumps(manifests.config_map("made", {"sky": "blue"}))
    h("POST", f"{h.here}/configmaps", kind, body)
    for media, change in (
        ("application/strategic-merge-patch+json", '{"data":{"sky":"grey"}}'),
        ("application/merge-patch+json", '{"data":{"sky":null}}'),
        ("application/json-patch+json", '[{"op":"add","path":"/data","value":{"a":"b"}}]'),
        ("application/apply-patch+yaml", '{"apiVersion":"v1","kind":"ConfigMap","data":{"c":"d"}}'),
        ("text/plain", "nonsense"),
    ):
        query = "?fieldManager=hand&force=true" if "apply" in media else ""
        h("PATCH", f"{h.here}/configmaps/made{query}", {"Content-Type": media}, change)
    h("DELETE", f"{h.here}/configmaps/made", kind, '{"propagationPolicy":"Background"}')


@operation("watch")
def watch(h: HttpSession) -> None:
    query = "watch=1&timeoutSeconds=1&labelSelector=app%3Dquiet"
    h("GET", f"{h.here}/pods?{query}")
    h("GET", f"{h.here}/pods?{query}", {"Accept": TABLE}, show=sizes)
    h("GET", f"{h.here}/pods?{query}&allowWatchBookmarks=true&resourceVersion=0", show=sizes)
    h("GET", f"{h.here}/pods?{query}&resourceVersion=1")


@operation("error-400")
def senseless(h: HttpSession) -> None:
    h("PUT", f"{h.here}/pods")
    h("HEAD", f"{h.here}/pods/quiet")
    h("GET", f"{h.here}/pods/quiet", {"Accept": "application/nonsense"})
    h("POST", f"{h.here}/configmaps", {"Content-Type": "application/nonsense"}, "x")
    h("POST", f"{h.here}/configmaps", {"Content-Type": "application/json"}, "{")
    h("POST", f"{h.here}/configmaps", {"Content-Type": "application/json"}, "[]")
    h("GET", f"{h.here}/pods?limit=many")
    h("GET", f"{h.here}/pods?fieldSelector=nonsense%3D1")
    h("GET", f"{h.here}/pods?resourceVersion=nonsense")
    h("GET", f"{h.here}/pods?continue=nonsense")


@operation("error-404")
def absent(h: HttpSession) -> None:
    h("GET", f"{h.here}/pods/absent")
    h("GET", f"{h.here}/nonsenses")
    h("GET", "/apis/absent.example.com/v1/things")
    h("GET", "/absent")
    h("GET", f"{h.here}/pods/absent/log")


@operation("get-raw")
def raw(h: HttpSession) -> None:
    for path in ("/version", "/api", "/apis", "/api/v1", "/livez", "/healthz", "/readyz?verbose"):
        h("GET", path)
    h("GET", "/openapi/v2", show=sizes)


@operation("pod-proxy")
def pod_proxy(h: HttpSession) -> None:
    h("GET", f"{h.here}/pods/web:8080/proxy/")
    h("GET", f"{h.here}/pods/web:8080/proxy")
    h("GET", f"{h.here}/pods/web:8080/proxy/absent")


@operation("exec")
def upgrades(h: HttpSession) -> None:
    websocket = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"sixteen bytes ok").decode(),
        "Sec-WebSocket-Protocol": "v4.channel.k8s.io",
    }
    spdy = {
        "Connection": "Upgrade",
        "Upgrade": "SPDY/3.1",
        "X-Stream-Protocol-Version": "v4.channel.k8s.io",
    }
    target = f"{h.here}/pods/web/exec?command={quote('true')}&stdout=true"
    h("GET", target, websocket)
    h("POST", target, spdy)
    h("POST", target)
    h("GET", f"{h.here}/pods/absent/exec?command=true&stdout=true", websocket)
    h("POST", f"{h.here}/pods/absent/exec?command=true&stdout=true", spdy)
    h("POST", target, {**spdy, "X-Stream-Protocol-Version": "nonsense"})
    h("GET", target, {**websocket, "Sec-WebSocket-Protocol": "nonsense"})


def small_set(h: HttpSession) -> None:
    """What shows that an address and a credential work for every kind of request."""
    get_json(h)
    watch(h)
    patch(h)


OPERATIONS |= dict.fromkeys(("by-path", "by-token", "static-token"), small_set)


@dataclass(frozen=True, slots=True)
class HttpClient:
    """The column of requests by hand."""

    name: str = "HTTP/1.1 by hand"

    def keys(self) -> Mapping[str, str]:
        """Its rows."""
        return dict.fromkeys(OPERATIONS, "")

    def open(self, place: Place, namespace: str, folder: Path) -> HttpSession:
        """Begin at a place."""
        return HttpSession(place, namespace, folder)
