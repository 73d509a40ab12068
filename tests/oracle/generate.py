"""Request lines near every border between what is forwarded and what is refused.

Made from pieces by a seeded random number: Hypothesis finds the smallest example of a fault, this
tries many thousands a second.
"""

from random import Random

METHODS = (b"GET", b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"DELETE")
ODD_METHODS = (b"get", b"TRACE", b"CONNECT", b"OPTIONS", b"PROPFIND", b"GET\x0b", b"")
PREFIXES = (
    b"/api/v1", b"/api/v1", b"/api/v1", b"/apis/apps/v1", b"/apis/apps/v1", b"/apis/x", b"/api",
    b"/apis", b"", b"/api/V1", b"/API/v1", b"/apis/Apps/v1", b"/healthz", b"/apis/a..b/v1", b"//",
    b"/apis/custom.metrics.k8s.io/v1beta1", b"/openapi/v3", b"/api/v1/", b"/apis/apps//v1",
)  # fmt: skip
SEGMENTS = (
    b"namespaces", b"namespaces", b"namespaces", b"other", b"pods", b"pods", b"pods",
    b"deployments", b"status", b"finalize", b"watch", b"proxy", b"exec", b"log", b"foo", b"a:80",
    b"scale", b"secrets",
)  # fmt: skip
ODD_SEGMENTS = (
    b"*", b"Pods", b"-a", b"a%20b", b"%C3%A9", b"%3A", b"", b".", b"..", b"%2e%2e", b"a%2Fb",
    b"a%252Fb", b"a;b", b"p%6fds", b"%zz", b"%00", b"a%5Cb", b"a%3Fb", b"a%23b", b"%c0%ae", b"a b",
    b"a#b", b"a_B.c", b"a" * 64, b"%", b"%4", b"a+b", b"a\\b", b'a"b', b"a<b>", b"\xff", b"\x7f",
    b"a\tb", b"a%09b", b"~", b"a@b", b"a=b", b"a,b", b"(a)", b"a|b", b"{a}", b"[a]", b"^", b"`",
    b"a" * 300,
)  # fmt: skip
TEXTS = (
    b"", b"true", b"false", b"FALSE", b"False", b"0", b"1", b"5", b"499", b"500", b"501", b"+1",
    b"%2B1", b"-1", b"-0", b"00", b"007", b"1e3", b"0x10", b"1_000", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809", b"0" * 30 + b"7",
    b"0" * 5000 + b"8", b"1" * 5000,
    b"%31", b"%EF%BC%91", b"%D9%A1", b"+", b"-", b"%20", b"1%20", b"%201", b"1%00", b"fal%C5%BFe",
    b"fal%73e", b"FAL%C5%BFE", b"%66alse", b"abc", b"None", b"Metadata", b"none", b"All", b"x",
    b"Foreground", b"%FF", b"null", b"token", b"dG9rZW4%3D",
)  # fmt: skip
FIELDS = (
    b"metadata.name%3Dfoo", b"metadata.name=foo", b"metadata.name==a,spec.x!=b", b"x", b",,",
    b"metadata.name!=foo", b"metadata.name%3Da%5C%2Cb", b"metadata.name%3Dz,metadata.name%3Da",
    b"metadata.name%3D..", b"metadata.name%3Da%2Fb", b"metadata.name%3Da%5C", b"metadata.name%3D.",
    b"metadata.name%3D%FF", b"metadata.name%3D%5C,%E2%82", b"metadata.name%3Da%00",
    b"metadata.namespace%3Dbank", b"metadata.name%3D", b"=a", b"!=a",
    b"metadata.name%20%3Da", b"metadata.name%3D%20a", b"Metadata.name%3Da", b"a%3Db%3Dc",
    b"metadata.name%3Da%25b", b"metadata.name==foo", b"metadata.name%3D%3D%3Dfoo", b"a+b%3Dc",
)  # fmt: skip
LABELS = (
    b"a", b"a%3Db", b"a%3Db,c%20in%20(d)", b"!!", b"%21a", b"a%20in%20(,)", b"a%20in%20()",
    b"a%20in%20(b,,)", b"a%20in%20(,,b)", b"a%20in%20(b%20c)", b"a%20in%20(,,,,b,,,)",
    b"a%20notin%20(b,,c)", b"a>1", b"a>x", b"a%3D%3Db", b"A/b%3Dc", b"x.io/a", b",", b"a,", b"a,,b",
    b"a%00b", b"in%20in%20(in)", b"a%3D" + b"b" * 64, b"a%3D%C3%A9", b"a%0A%3D%09b", b"a%0Bb",
)  # fmt: skip
KEYS = (
    b"watch", b"watch", b"watch", b"limit", b"limit", b"timeoutSeconds", b"continue", b"pretty",
    b"resourceVersion", b"resourceVersionMatch", b"sendInitialEvents", b"allowWatchBookmarks",
    b"includeObject", b"shardSelector", b"dryRun", b"gracePeriodSeconds", b"orphanDependents",
    b"propagationPolicy", b"uid", b"fieldManager", b"Watch", b"w%61tch", b"lim%69t", b"command",
    b"ignoreStoreReadErrorWithClusterBreakingPotential", b"", b"%zz", b"a%00", b"a;b", b"x",
)  # fmt: skip
FILLERS = (b"", b"&", b"&&", b"x", b"x=", b"x=1&y=2", b"=", b"=x")


def request_line(random: Random) -> tuple[bytes, bytes]:
    """A method and a target."""
    if random.random() < 0.004:
        return _flood(random)
    method = random.choice(METHODS if random.random() < 0.995 else ODD_METHODS)
    count = random.choice((0, 1, 1, 2, 3, 3, 4, 5, 6))
    parts = [
        random.choice(SEGMENTS if random.random() < 0.97 else ODD_SEGMENTS) for _ in range(count)
    ]
    path = random.choice(PREFIXES) + b"".join(b"/" + part for part in parts)
    if random.random() < 0.1:
        path += b"/"
    return method, path + _query(random)


def _query(random: Random) -> bytes:
    draw = random.random()
    if draw < 0.2:
        return b""
    pairs = [_pair(random) for _ in range(random.choice((1, 1, 2, 2, 3, 4)))]
    if draw > 0.97:
        pairs.insert(random.randrange(len(pairs) + 1), random.choice(FILLERS))
    return b"?" + b"&".join(pairs)


def _pair(random: Random) -> bytes:
    draw = random.random()
    if draw < 0.25:
        return b"fieldSelector=" + random.choice(FIELDS)
    if draw < 0.4:
        return b"labelSelector=" + random.choice(LABELS)
    key = random.choice(KEYS)
    return key if random.random() < 0.1 else key + b"=" + random.choice(TEXTS)


def _flood(random: Random) -> tuple[bytes, bytes]:
    """A collection and what is selected of it, among very many other parameters.

    Nothing else is wrong, since what is refused anyway says nothing about their number.
    """
    selecting = (
        b"watch=1",
        b"fieldSelector=metadata.name%3Dfoo",
        b"labelSelector=a",
        b"dryRun=All",
    )
    pairs = [random.choice(selecting), *_many(random)]
    target = b"/api/v1/namespaces/shop/secrets?" + b"&".join(pairs)
    return random.choice((b"GET", b"GET", b"DELETE")), target


def _many(random: Random) -> list[bytes]:
    """About as many pairs as something on the way may have a bound for, short enough to fit."""
    count = random.choice((250, 254, 256, 257, 1000, 4095, 9_997, 9_999, 10_000, 10_001))
    filler = random.choice((b"", b"ports", b"command=a", None, None))
    if filler is not None:
        return [filler] * count
    return [b"%x" % number for number in range(count)]
