"""What of a cluster's answer reaches the client; the cluster may be hostile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mk8s_proxy.kube.request_info import parse_request_info
from mk8s_proxy.kube.request_target import parse_target
from mk8s_proxy.tunnel import response_head as response_headers
from mk8s_proxy.tunnel.response_head import (
    ResponseRefused,
    read_response,
    relayed_fields,
)

Fields = list[tuple[bytes, bytes]]
OK = (b":status", b"200")
SANDBOX = [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"sandbox")]


def sanitize(fields: Fields, *, proxied: bool, prefix: bytes = b"") -> Fields:
    return relayed_fields(read_response(fields), proxied=proxied, prefix=prefix)


def body_length(fields: Fields, method: bytes, *, end: bool) -> int:
    return response_headers.body_length(read_response(fields), method, end=end)


def head(status: int, *fields: tuple[bytes, bytes]) -> Fields:
    return [(b":status", b"%d" % status), *fields]


@pytest.mark.parametrize("status", [100, 200, 404, 599])
def test_a_status_is_read(status: int) -> None:
    assert read_response(head(status)).status == status


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"x", b"y"), OK],
        [(b":status", b"")],
        [(b":status", b"99")],
        [(b":status", b"0200")],
        [(b":status", b"600")],
        [(b":status", b"099")],
        [(b":status", b"2 0")],
        [(b":status", "२००".encode()[:3])],
        [(b":Status", b"200")],
    ],
)
def test_a_strange_status_is_refused(fields: Fields) -> None:
    with pytest.raises(ResponseRefused):
        read_response(fields)


def test_ordinary_fields_pass_in_order() -> None:
    fields = head(
        200,
        (b"audit-id", b"1"),
        (b"content-type", b"application/json"),
        (b"warning", b'299 - "a"'),
        (b"warning", b'299 - "b"'),
        (b"x-kubernetes-pf-flowschema-uid", b"u"),
        (b"x", b"a\tb \xc3\xa4"),
    )
    assert sanitize(fields, proxied=False) == fields
    assert sanitize(fields, proxied=True) == fields + SANDBOX


@pytest.mark.parametrize(
    "name",
    [
        b"set-cookie", b"alt-svc", b"strict-transport-security", b"connection", b"keep-alive",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
        b"mk8s-error", b"mk8s-upgrade", b"mk8s-anything", b"clear-site-data", b"refresh",
        b"service-worker-allowed", b"nel", b"report-to", b"reporting-endpoints", b"public-key-pins",
    ],
)  # fmt: skip
def test_attack_fields_that_would_speak_for_central_are_dropped(name: bytes) -> None:
    for _ in range(2):  # judged, then remembered
        assert sanitize([OK, (name, b"x"), (b"etag", b"1")], proxied=False) == [OK, (b"etag", b"1")]


@pytest.mark.parametrize(
    "name",
    [b"", b"X-Upper", b"a b", b"a:b", b":status", b":path", b"a\r\nb", b"n" * 257, b"X_Y", b"x_\n"],
)
def test_names_that_http_does_not_allow_are_refused(name: bytes) -> None:
    with pytest.raises(ResponseRefused, match="name"):
        sanitize([OK, (name, b"x")], proxied=False)


@pytest.mark.parametrize(
    "name", [b"content_length", b"transfer_encoding", b"set_cookie", b"mk8s_error", b"x_y", b"_"]
)
def test_attack_name_that_another_hop_reads_with_a_dash(name: bytes) -> None:
    for _ in range(2):  # judged, then remembered
        assert sanitize([OK, (name, b"5"), (b"etag", b"1")], proxied=True) == [
            OK,
            (b"etag", b"1"),
            *SANDBOX,
        ]
        assert body_length([OK, (name, b"5")], b"GET", end=False) == -1


def test_a_dropped_name_is_in_the_log_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(response_headers, "_noted", set())
    for _ in range(3):
        sanitize([OK, (b"x_y", b"secret"), (b"x-z", b"")], proxied=False)
    assert [record.__dict__["header"] for record in caplog.records] == ["x_y"]
    assert "secret" not in caplog.text


def test_attack_log_filled_with_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(response_headers, "_noted", set())
    sanitize([OK, *((b"x_%d" % number, b"") for number in range(500))], proxied=False)
    assert len(caplog.records) == response_headers._NOTED_NAMES


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x=y", b"a\nb", b"\0", b"\x7f", b"\x1b[31m"])
def test_control_characters_in_values_are_refused(value: bytes) -> None:
    with pytest.raises(ResponseRefused, match="control"):
        sanitize([OK, (b"x", value), (b"y", b"z")], proxied=False)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_cve_2022_3172_redirects_are_never_passed_on(status: int) -> None:
    moved = head(status, (b"location", b"https://evil.example.com/"))
    with pytest.raises(ResponseRefused, match="redirect"):
        sanitize(moved, proxied=False)
    with pytest.raises(ResponseRefused, match="leaves"):
        sanitize(moved, proxied=True)


def own_redirect(
    asked: bytes, location: bytes, *, method: bytes = b"GET", status: int = 301
) -> Fields:
    info = parse_request_info(method, parse_target(method, asked))
    fields = read_response(head(status, (b"location", location)))
    return relayed_fields(fields, proxied=False, prefix=b"/k8s/prod", method=method, info=info)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(
    ("asked", "location"),
    [
        (b"/openapi/v3/api/v1?hash=OLD", b"/openapi/v3/api/v1?hash=NEW"),
        (b"/openapi/v3/apis/a.example.com/v1", b"/openapi/v3/apis/a.example.com/v1?hash=x..y"),
        (b"/debug/pprof", b"/debug/pprof/"),
    ],
)
def test_a_redirect_of_the_api_server_itself_stays_at_the_address(
    asked: bytes, location: bytes, method: bytes, status: int
) -> None:
    moved = own_redirect(asked, location, method=method, status=status)
    assert moved == head(status, (b"location", b"/k8s/prod" + location)) + SANDBOX


@pytest.mark.parametrize(
    ("asked", "location"),
    [
        (b"/openapi/v3/api/v1", b"https://evil.example.com/openapi/v3/api/v1"),
        (b"/openapi/v3/api/v1", b"//openapi/v3/api/v1"),
        (b"/openapi/v3/api/v1", b"/\\openapi/v3"),
        (b"/openapi/v3/api/v1", b"openapi/v3/api/v1"),
        (b"/openapi/v3/api/v1", b"/openapi/../auth/logout"),
        (b"/openapi/v3/api/v1", b"/openapi/%2E%2e/auth/logout"),
        (b"/openapi/v3/api/v1", b"/openapix"),
        (b"/openapi/v3/api/v1", b"/auth/logout"),
        (b"/debug/pprof", b"/api/v1/secrets"),
        (b"/", b"/api/v1/secrets"),
    ],
)
def test_attack_a_redirect_of_an_api_server_elsewhere(asked: bytes, location: bytes) -> None:
    with pytest.raises(ResponseRefused, match="leaves"):
        own_redirect(asked, location)


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        (b"POST", b"/apis/a.example.com/v1/things"),
        (b"GET", b"/apis/a.example.com/v1/things"),
        (b"POST", b"/openapi/v3/api/v1"),
    ],
)
def test_attack_an_aggregated_api_sends_resources_and_writes_elsewhere(
    method: bytes, asked: bytes
) -> None:
    """CVE-2022-3172: what a client may do itself, it must not be told to do by somebody else."""
    with pytest.raises(ResponseRefused, match="redirect"):
        own_redirect(asked, asked + b"?x", method=method, status=308)


def test_attack_two_locations() -> None:
    info = parse_request_info(b"GET", parse_target(b"GET", b"/debug/pprof"))
    two = head(301, (b"location", b"/debug/pprof/"), (b"location", b"/debug/x"))
    with pytest.raises(ResponseRefused, match="leaves"):
        relayed_fields(read_response(two), proxied=False, method=b"GET", info=info)


def test_not_modified_is_no_redirect() -> None:
    assert sanitize(head(304), proxied=False) == head(304)


def test_a_redirect_within_a_proxied_service_stays_there() -> None:
    target = b"/api/v1/namespaces/n/services/s/proxy/"
    fields = head(301, (b"location", target), (b"x", b"y"))
    moved = sanitize(fields, proxied=True, prefix=b"/k8s/prod")
    assert moved == head(301, (b"location", b"/k8s/prod" + target), (b"x", b"y")) + SANDBOX
    assert sanitize(fields, proxied=True)[1] == (b"location", target)


@pytest.mark.parametrize(
    "target",
    [
        b"/auth/logout",
        b"//evil.example.com/api/",
        b"https://central/api/v1",
        b"/api/../../../auth/whoami",
        b"/api/%2e%2E/x",
        b"/api/.%2e/x",
        b"/api/..",
        b"/api/..?x",
        b"/api/\\..\\x",
        b"/api/./../x",
    ],
)
def test_a_redirect_that_climbs_out_is_refused(target: bytes) -> None:
    with pytest.raises(ResponseRefused, match="leaves"):
        sanitize(head(302, (b"location", target)), proxied=True, prefix=b"/k8s/prod")


def test_dots_in_a_name_are_no_climbing() -> None:
    target = b"/api/v1/namespaces/n/pods/p/proxy/a..b/.hidden/v1.2?x=.."
    assert sanitize(head(302, (b"location", target)), proxied=True)[1] == (b"location", target)


@pytest.mark.parametrize(
    ("status", "method", "length", "end", "left"),
    [
        (200, b"GET", None, False, -1),
        (200, b"GET", b"12", False, 12),
        (200, b"GET", b"0", True, 0),
        (200, b"GET", None, True, 0),
        (200, b"HEAD", b"12", True, 0),
        (200, b"HEAD", b"12", False, 0),
        (204, b"DELETE", None, False, 0),
        (304, b"GET", b"12", True, 0),
        (304, b"GET", b"12", False, 0),
    ],
)
def test_how_long_a_body_must_be(
    status: int, method: bytes, length: bytes | None, end: bool, left: int
) -> None:
    fields = head(status) + ([(b"content-length", length)] if length is not None else [])
    assert body_length(fields, method, end=end) == left


@pytest.mark.parametrize("value", [b"", b"-1", b"+5", b"1 2", b"5, 5", b"0x5", b"1" * 19])
def test_a_length_that_is_no_number_is_refused(value: bytes) -> None:
    with pytest.raises(ResponseRefused, match="content-length"):
        body_length([OK, (b"content-length", value)], b"GET", end=False)


def test_two_lengths_are_refused() -> None:
    with pytest.raises(ResponseRefused, match="content-length"):
        body_length([OK, (b"content-length", b"5"), (b"content-length", b"5")], b"GET", end=False)


def test_what_the_agent_says_itself_is_apart() -> None:
    fields = head(502, (b"mk8s-error", b"gone"), (b"audit-id", b"7"), (b"x", b"y"))
    read = read_response(fields)
    assert read.internal == {b"mk8s-error": b"gone"}
    assert (read.audit_id, read.length) == (b"7", None)


def test_an_aggregated_api_may_add_an_audit_id() -> None:
    fields = head(200, (b"audit-id", b"1"), (b"audit-id", b"2"))
    assert read_response(fields).fields == fields


@pytest.mark.parametrize("status", [200, 204])
def test_an_end_before_the_body_is_refused(status: int) -> None:
    with pytest.raises(ResponseRefused, match="ended before"):
        body_length(head(status, (b"content-length", b"5")), b"GET", end=True)


def test_names_are_remembered_within_bounds() -> None:
    for number in range(5000):
        sanitize([OK, (b"x-%d" % number, b"y")], proxied=False)
    assert len(response_headers._places) <= 1024


def test_an_answer_with_the_names_of_one_before_is_read_alike() -> None:
    names = b"audit-id", b"content-length", b"audit-id", b"x-other"
    heads = [
        head(200, *zip(names, values, strict=True))
        for values in ((b"a", b"1", b"b", b"c"), (b"d", b"2", b"e", b"f"))
    ]
    response_headers._places.clear()
    for fields, length, audit_id in zip(heads, (b"1", b"2"), (b"b", b"e"), strict=True):
        read = read_response(fields)
        assert (read.fields, read.length, read.audit_id) == (fields, length, audit_id)
    assert len(response_headers._places) == 1
    with pytest.raises(ResponseRefused, match="control"):
        read_response([*heads[0][:-1], (b"x-other", b"a\nb")])


def test_names_of_which_one_is_dropped_are_looked_at_each_time() -> None:
    response_headers._places.clear()
    for value in (b"1", b"2"):
        read = read_response(head(200, (b"set-cookie", value), (b"content-length", value)))
        assert read.fields == head(200, (b"content-length", value))
        assert read.length == value
    assert len(response_headers._places) == 0


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=6))
def test_whatever_passes_fits_an_http1_head(fields: Fields) -> None:
    try:
        kept = sanitize([OK, *fields], proxied=False)
    except ResponseRefused:
        return
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in kept[1:])
    assert lines.count(b"\n") == lines.count(b"\r") == len(kept) - 1
    assert all(name == name.lower() for name, _ in kept)
