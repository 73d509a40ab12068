"""Which proxy is taken: the agent and the CLI decide as Go's own library, hence as kubectl."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from mk8s_agent.wire import egress_proxy as of_agent
from mk8s_cli.central import egress_proxy as of_cli
from tests.oracle.process import PROGRAM, Oracle, program

PROXY = "http://proxy.invalid:3128"
HOSTS = (
    "10.1.2.3", "10.0.0.1", "192.0.2.7", "127.0.0.1", "127.8.0.1", "203.0.113.1", "[::1]",
    "[2001:db8::1]", "[fd00::7]", "[::ffff:10.1.2.3]", "[fe80::1%25eth0]", "localhost", "LOCALHOST",
    "corp.example", "a.corp.example", "A.B.Corp.Example", "xcorp.example", "example",
    "10.1.2.3.nip.io",     "bücher.example", "xn--bcher-kva.example", "a.localhost",
)  # fmt: skip
ENTRIES = (
    "10.0.0.0/8", "10.1.2.3/8", "10.0.0.0/08", "10.0.0.0/255.0.0.0", "10.0.0.0/33", "10.0.0.0/",
    "::ffff:10.0.0.0/104", "::ffff:10.0.0.0/90", "fd00::/8", "::/0", "0.0.0.0/0", "10.1.2.3",
    "10.1.2.3:443", "10.1.2.3:80", "010.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "[2001:db8::1]",
    "[2001:db8::1]:443", "[2001:db8::1]:", "fe80::1%eth0", "fe80::1", "fe80::/10", ".corp.example",
    "corp.example", "*.corp.example", "*corp.example", "corp.example:443", ".corp.example:6443",
    "corp.example:", "corp.example:x:y", ":443", ":", ".", "*.", "*", " * ", "", "CORP.EXAMPLE",
    "[corp.example]:443", "a[b]:80", "[", "]", "[]:443", "example", "bücher.example",
    "192.0.2.7/32", ".bücher.example", "2.3", "/", "/8", "localhost", "a.corp.example/8",
    "10.1.2.3 ",
)  # fmt: skip
PORTS = ("", ":443", ":6443", ":80")
CASES = 20_000


@pytest.fixture(params=[of_agent, of_cli], ids=["agent", "cli"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    found: ModuleType = request.param
    return found


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    built = program()
    if built is None:
        pytest.skip(f"set {PROGRAM} to what `python -m tests.oracle.build` prints")
    with Oracle(built) as running:
        yield running


def direct(module: ModuleType, no_proxy: str, host: str, port: int = 443) -> bool:
    return module.EgressProxies(PROXY, no_proxy).to(host, port) is None


def test_the_agent_and_the_cli_have_the_same_rules() -> None:
    agent, cli = (Path(str(one.__file__)).read_bytes() for one in (of_agent, of_cli))
    assert agent == cli


def test_no_proxy_is_read_as_go_reads_it(oracle: Oracle) -> None:
    source = Random(12)
    asked = []
    for entry in ENTRIES:
        asked += [(entry, host, port) for host in HOSTS for port in PORTS]
    while len(asked) < CASES:
        entries = ",".join(source.choices(ENTRIES, k=source.randrange(1, 4)))
        asked.append((entries, source.choice(HOSTS), source.choice(PORTS)))
    questions = [
        ("proxy", entries.encode(), f"https://{host}{port}".encode())
        for entries, host, port in asked
    ]
    theirs = [not it["path"] for it in oracle.ask(questions)]
    ours = [
        direct(of_agent, entries, _plain(host), int(port[1:] or 443))
        for entries, host, port in asked
    ]
    assert oracle.proxied("", "https://x.example") is True
    wrong = [case for case, we, they in zip(asked, ours, theirs, strict=True) if we != they]
    assert not wrong
    assert 1000 < sum(ours) < len(ours) - 1000


def _plain(host: str) -> str:
    """The host of a URL, as it stands in it."""
    return host.strip("[]").replace("%25", "%")


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "wanted"),
    [
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/255.0.0.0", "10.1.2.3", 443, False),
        ("10.0.0.0/33", "10.0.0.0", 443, False),
        ("::ffff:10.0.0.0/104", "10.1.2.3", 443, True),
        ("fe80::/10", "fe80::1%eth0", 443, True),
        ("10.1.2.3%1/8", "10.1.2.3", 443, False),
        ("x,*", "anything.example", 443, True),
        (".corp.example", "a.corp.example", 443, True),
        (".corp.example", "corp.example", 443, False),
        ("*.corp.example", "a.corp.example", 443, True),
        ("corp.example", "corp.example", 443, True),
        ("corp.example:6443", "corp.example", 443, False),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("10.1.2.3:80", "10.1.2.3", 443, False),
        ("fe80::1%eth0", "fe80::1", 443, False),
        (":443", "a.example", 443, False),
        ("bücher.example", "xn--bcher-kva.example", 443, True),
        (".bücher.example", "a.xn--bcher-kva.example", 443, True),
        ("ü" * 70, "a.example", 443, False),
        ("", "127.0.0.1", 443, True),
        ("", "::1", 443, True),
        ("", "localhost", 443, True),
    ],
)
def test_what_is_reached_directly(
    module: ModuleType, no_proxy: str, host: str, port: int, wanted: bool
) -> None:
    assert direct(module, no_proxy, host, port) is wanted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://p.example", "http://p.example:80"),
        ("p.example:3128", "http://p.example:3128"),
        ("https://p.example", "https://p.example:443"),
        ("socks5://[fd00::1]", "socks5://[fd00::1]:1080"),
        ("http://u:p%40ss@p.example:8/", "http://p.example:8"),
    ],
)
def test_the_url_of_a_proxy(module: ModuleType, text: str, shown: str) -> None:
    proxy = module.EgressProxies(text).to("central.example", 443)
    assert str(proxy) == repr(proxy) == shown
    if "@" in text:
        assert (proxy.user, proxy.password) == ("u", "p@ss")


@pytest.mark.parametrize(
    "text", ["ftp://secret@p", "http://secret:x@", "http://p:secret", "http://p:0/secret",
             "http://secret p", "http://p\n/secret", "http://[secret", "secret" * 1000]
)  # fmt: skip
def test_attack_a_password_in_the_error_about_a_proxy(module: ModuleType, text: str) -> None:
    with pytest.raises(module.ProxyError, match="HTTPS_PROXY must look like") as caught:
        module.EgressProxies(text)
    assert "secret" not in str(caught.value)


def test_the_variables_and_their_order(module: ModuleType) -> None:
    read = module.EgressProxies.of_environment
    small = {"https_proxy": "a:1", "no_proxy": "direct.example"}
    assert str(read(small).to("x.example", 443)) == "http://a:1"
    assert read(small).to("direct.example", 443) is None
    large = small | {"HTTPS_PROXY": "b:1", "NO_PROXY": "other.example"}
    assert str(read(large).to("direct.example", 443)) == "http://b:1"
    assert read({"HTTPS_PROXY": ""}).to("x.example", 443) is None
