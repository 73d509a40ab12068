"""What may differ between two runs of the same operation, replaced by a word; nothing else is.

`RULES` is the whole list: identities that an API server makes up (uid, resourceVersion, continue
token, generated names, addresses), the clock (timestamps, ages, durations), what the runner itself
chose differently for the two runs (the namespace, the server's address, the home folder, local
ports and process ids), and widths of columns, which follow the lengths of all of these.
`tests/conformance/test_conformance_normalise.py` has an example of each.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Rule(NamedTuple):
    """One kind of volatile text."""

    what: str
    pattern: re.Pattern[str]
    word: str


SAFE = "[bcdfghjklmnpqrstvwxz2456789]"
"""The alphabet of names that Kubernetes generates."""

RULES = (
    Rule("log lines of level info", re.compile(r"^I\d{4} \d\d:\d\d:.*\n?", re.MULTILINE), ""),
    Rule(
        "what client-go says of its own race at a session's end, with mk8s or without",
        re.compile(
            r"^E\d{4} .*(?:websocket: close sent|write on closed stream \d+).*\n?", re.MULTILINE
        ),
        "",
    ),
    Rule(
        "stamp, process and place of a warning in a log",
        re.compile(r"^([WEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.]+:\d+\]", re.MULTILINE),
        r"\1 LOG",
    ),
    Rule(
        "the client certificate, which is the runner's own way to log in past mk8s (1.32)",
        re.compile(
            r"^Extra: authentication\.kubernetes\.io/credential-id .*\n?|"
            r',\s*"extra": ?\{\s*"authentication\.kubernetes\.io/credential-id": ?'
            r'\[\s*"X509SHA256=[0-9a-f]{64}"\s*\]\s*\}(?=\s*\})|'
            r'(?:"extra": ?)?\{\s*"authentication\.kubernetes\.io/credential-id": ?'
            r'\[\s*"X509SHA256=[0-9a-f]{64}"\s*\]\s*\},?\s*',
            re.MULTILINE,
        ),
        "",
    ),
    Rule(
        "the uid of a person, which mk8s gives and a client certificate does not",
        re.compile(r'^UID +\S+\n?|"uid": ?"[^"]*",\s*(?="username")', re.MULTILINE),
        "",
    ),
    Rule(
        "the same uid behind the name",
        re.compile(r'("username": ?"[^"]*"),\s*"uid": ?"[^"]*"'),
        r"\1",
    ),
    Rule(
        "the limit of a starting container that a kubelet since 1.33 may believe to see",
        re.compile(
            r'("f:resources": ?)\{\s*"\.": ?\{\},\s*"f:limits": ?\{\s*"\.": ?\{\},\s*'
            r'"f:memory": ?\{\}\s*\}\s*\}'
        ),
        r"\1{}",
    ),
    Rule("uids", re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UID"),
    Rule("timestamps", re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?"), "TIME"),
    Rule(
        "dates in words", re.compile(r"\b\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"), "TIME"
    ),
    Rule("dates in words", re.compile(r"\b\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}"), "TIME"),
    Rule("ages and durations", re.compile(r"(?<![\w.-])(?:\d+(?:\.\d+)?(?:ms|[dhms]))+\b"), "AGE"),
    Rule("ages without a value", re.compile(r"<(?:unknown|invalid)>"), "AGE"),
    Rule(
        "resource versions",
        re.compile(r"(resourceVersion[\"']?(?:: ?|=|%3D)[\"']?)\d+", re.IGNORECASE),
        r"\1VERSION",
    ),
    Rule(
        "continue tokens",
        re.compile(r"(continue[\"']?(?:: ?|=)[\"']?)[\w%=-]{8,}", re.IGNORECASE),
        r"\1CONTINUE",
    ),
    Rule(
        "how long a client asks a watch to last",
        re.compile(r"timeoutSeconds=\d{3}\b"),
        "timeoutSeconds=N",
    ),
    Rule("containers, images, sessions", re.compile(r"(?<![0-9a-f])[0-9a-f]{64}\b"), "ID"),
    Rule(
        "addresses of pods and services", re.compile(r"\b10\.(?:96|200|244)\.\d+\.\d+\b"), "ADDRESS"
    ),
    Rule(
        "the API server's own address in /api",
        re.compile(r'("serverAddress": ?")[\w.:-]+"'),
        r'\1ADDRESS"',
    ),
    Rule("names of events", re.compile(r"\.1[0-9a-f]{15}\b"), ".EVENT"),
    Rule(
        "generated names of replica sets' pods",
        re.compile(rf"-({SAFE}{{8,10}})-{SAFE}{{5}}\b"),
        r"-\1-POD",
    ),
    Rule(
        "generated names",
        re.compile(rf"\b(generated-|debugger-|node-debugger-){SAFE}{{5}}\b"),
        r"\1NAME",
    ),
    Rule("local ports", re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):\d{4,5}"), r"\1:PORT"),
    Rule("spaces that align columns", re.compile(r"[ \t]+"), " "),
    Rule("spaces at the ends of lines", re.compile(r" +$", re.MULTILINE), ""),
)


def normalise(text: str, chosen: Mapping[str, str]) -> str:
    """Text without what is volatile.

    Args:
        text: what a client printed.
        chosen: the runner's own choices of this run and the word for each, e.g. the namespace;
            longer ones are replaced first.
    """
    for value in sorted(chosen, key=len, reverse=True):
        text = text.replace(value, chosen[value])
    for rule in RULES:
        text = rule.pattern.sub(rule.word, text)
    return text.strip()
