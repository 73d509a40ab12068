"""Request lines for the tests of the target and of RequestInfo: the table, and generated ones."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

TABLE = Path(__file__).parent.parent / "data" / "requestinfo-cases.json"
CASES: list[dict[str, Any]] = json.loads(TABLE.read_text())["cases"]

_METHODS = [b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"get", b"TRACE"]
_PREFIXES = [
    b"/api/v1", b"/api/v1", b"/apis/apps/v1", b"/apis/custom.metrics.k8s.io/v1beta1", b"/apis/x",
    b"/api", b"/apis", b"", b"/api/V1", b"/API/v1", b"/apis/Apps/v1", b"/healthz", b"/apis/a..b/v1",
]  # fmt: skip
_SEGMENTS = [
    b"namespaces", b"namespaces", b"namespaces", b"other", b"pods", b"pods", b"deployments",
    b"status", b"finalize", b"watch", b"proxy", b"exec", b"log", b"foo", b"a:80", b"*", b"Pods",
    b"-a", b"a%20b", b"%C3%A9", b"%3A", b"", b".", b"..", b"%2e%2e", b"a%2Fb", b"a%252Fb", b"a;b",
    b"p%6fds", b"%zz", b"%00", b"a%5Cb", b"a%3Fb", b"a%23b", b"%c0%ae", b"a b", b"a#b", b"a_B.c",
    b"a" * 64,
]  # fmt: skip
_PARAMETERS = [
    b"watch", b"watch=", b"watch=true", b"watch=FALSE", b"watch=0", b"watch=%66alse", b"limit=5",
    b"limit=abc", b"limit=", b"limit=%2B5", b"limit=-9223372036854775808",
    b"limit=9223372036854775808", b"timeoutSeconds=1", b"timeoutSeconds=00000000000000000000001",
    b"timeoutSeconds=9223372036854775807", b"fieldSelector=metadata.name%3Dfoo",
    b"fieldSelector=metadata.name=foo", b"fieldSelector=metadata.name==a,spec.x!=b",
    b"fieldSelector=metadata.name!=foo", b"fieldSelector=metadata.name%3Da%5C%2Cb",
    b"fieldSelector=metadata.name%3Dz,metadata.name%3Da", b"fieldSelector=metadata.name%3D..",
    b"fieldSelector=metadata.name%3Da%2Fb", b"fieldSelector=x", b"fieldSelector=,,",
    b"fieldSelector=metadata.name%3Da%5C", b"fieldSelector=metadata.name%3D%FF", b"labelSelector=a",
    b"labelSelector=a%3Db,c%20in%20(d)", b"labelSelector=!!", b"labelSelector=%21a", b"x=1;y=2",
    b"%77atch=1", b"a=%zz", b"command=a", b"command=b", b"", b"Watch=1", b"%66ieldSelector=x%3Dy",
]  # fmt: skip


@st.composite
def request_lines(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A method and a target, most of them near the border between good and bad."""
    method = draw(st.sampled_from(_METHODS))
    segment = st.sampled_from(_SEGMENTS[:18]) | st.sampled_from(_SEGMENTS)
    segments = draw(st.lists(segment, max_size=6))
    path = draw(st.sampled_from(_PREFIXES)) + b"".join(b"/" + part for part in segments)
    path += draw(st.sampled_from([b"", b"", b"/"]))
    parameters = draw(st.lists(st.sampled_from(_PARAMETERS), max_size=4))
    query = b"?" + b"&".join(parameters) if parameters else b""
    return method, path + query
