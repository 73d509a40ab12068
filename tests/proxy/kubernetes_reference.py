"""An independent reading of a request line, in the shape of Kubernetes's Go code.

Written from `requestinfo.go`, `net/url`, `runtime/converter.go`, `fields/selector.go` and
`labels/selector.go`, token by token as they do it, sharing nothing with the code under test. It
knows no refusal: it answers what an API server would understand.
"""

import re
from dataclasses import dataclass


@dataclass
class Reading:
    is_resource_request: bool
    verb: str
    path: str
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""


def unescape(text: bytes, *, plus: bool) -> bytes | None:
    """Go's url.unescape; None where it returns an error."""
    out = bytearray()
    i = 0
    while i < len(text):
        byte = text[i : i + 1]
        if byte == b"%":
            digits = text[i + 1 : i + 3]
            if len(digits) < 2 or not all(chr(d) in "0123456789abcdefABCDEF" for d in digits):
                return None
            out += bytes([int(digits, 16)])
            i += 3
            continue
        out += b" " if plus and byte == b"+" else byte
        i += 1
    return bytes(out)


def query_values(query: bytes) -> dict[bytes, list[bytes]]:
    """Go's url.ParseQuery (1.17 and later): what it cannot read it leaves out."""
    values: dict[bytes, list[bytes]] = {}
    for pair in query.split(b"&"):
        if not pair or b";" in pair:
            continue
        raw_key, _, raw_value = pair.partition(b"=")
        key, value = unescape(raw_key, plus=True), unescape(raw_value, plus=True)
        if key is not None and value is not None:
            values.setdefault(key, []).append(value)
    return values


def read(method: str, target: bytes) -> Reading | None:
    """NewRequestInfo; None where Go refuses the request or RequestInfo is an error."""
    raw_path, _, query = target.partition(b"?")
    decoded = unescape(raw_path, plus=False)
    if decoded is None:
        return None
    path = decoded.decode("utf-8", "replace")
    reading = Reading(False, method.lower(), path)
    parts = path.strip("/").split("/") if path.strip("/") else []
    if len(parts) < 3 or parts[0] not in {"api", "apis"}:
        return reading
    prefix, parts = parts[0], parts[1:]
    if prefix == "apis":
        if len(parts) < 3:
            return reading
        reading.api_group, parts = parts[0], parts[1:]
    reading.is_resource_request = True
    reading.api_version, parts = parts[0], parts[1:]
    return _resource(method, reading, parts, query)


VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


def _resource(method: str, reading: Reading, parts: list[str], query: bytes) -> Reading | None:
    reading.verb = VERBS.get(method, "")
    if parts[0] in {"proxy", "watch"}:
        if len(parts) < 2:
            return None
        reading.verb, parts = parts[0], parts[1:]
    if parts[0] == "namespaces" and len(parts) > 1:
        reading.namespace = parts[1]
        if len(parts) > 2 and parts[2] not in {"status", "finalize"}:
            parts = parts[2:]
    resource, name, subresource, *_ = [*parts, "", "", ""]
    reading.resource, reading.name = resource, name
    if reading.verb != "proxy":
        reading.subresource = subresource
    if reading.name == "" and reading.verb == "get":
        _list_options(reading, query_values(query))
    if reading.name == "" and reading.verb == "delete":
        reading.verb = "deletecollection"
    return reading


def _list_options(reading: Reading, values: dict[bytes, list[bytes]]) -> None:
    watch = b"watch" in values and values[b"watch"][0].lower() not in {b"false", b"0"}
    reading.verb = "watch" if watch else "list"
    for key in (b"limit", b"timeoutSeconds"):
        if key in values and parse_int64(values[key][0]) is None:
            return
    labels = values.get(b"labelSelector", [b""])[0].decode("utf-8", "replace")
    if not labels_parse(labels):
        return
    terms = fields_parse(values.get(b"fieldSelector", [b""])[0])
    for field, equal, value in terms or ():
        if equal and field == b"metadata.name":
            if value not in {b".", b".."} and b"/" not in value and b"%" not in value:
                reading.name = value.decode("utf-8", "replace")
            return


def parse_int64(text: bytes) -> int | None:
    """strconv.ParseInt(text, 10, 64)."""
    digits = text[1:] if text[:1] in {b"+", b"-"} else text
    if not digits or not all(48 <= digit <= 57 for digit in digits):
        return None
    number = 0
    for digit in digits:
        number = number * 10 + digit - 48
        if number > 2**64:
            return None
    number = -number if text[:1] == b"-" else number
    return number if -(2**63) <= number < 2**63 else None


def fields_parse(selector: bytes) -> list[tuple[bytes, bool, bytes]] | None:
    """fields.ParseSelector: (field, whether equal, value) in order; None where it is an error."""
    terms, start, in_slash = [], 0, False
    for i, byte in enumerate(selector):
        if in_slash:
            in_slash = False
        elif byte == ord("\\"):
            in_slash = True
        elif byte == ord(","):
            terms.append(selector[start:i])
            start = i + 1
    terms.append(selector[start:])
    items = []
    for term in sorted(terms):
        if not term:
            continue
        split = _split_term(term)
        if split is None:
            return None
        value = _unescape_value(split[2])
        if value is None:
            return None
        items.append((split[0], split[1] != b"!=", value))
    return items


def _split_term(term: bytes) -> tuple[bytes, bytes, bytes] | None:
    for i in range(len(term)):
        for operator in (b"!=", b"==", b"="):
            if term[i:].startswith(operator):
                return term[:i], operator, term[i + len(operator) :]
    return None


def _unescape_value(text: bytes) -> bytes | None:
    out, in_slash = bytearray(), False
    for byte in text:
        if in_slash:
            if byte not in b"\\,=":
                return None
            out.append(byte)
            in_slash = False
        elif byte == ord("\\"):
            in_slash = True
        elif byte in b",=":
            return None
        else:
            out.append(byte)
    return None if in_slash else bytes(out)


class _LabelError(Exception):
    pass


_WORD = "identifier"
_TOKENS = (")", ",", "!", "==", "=", ">", "in", "<", "!=", "notin", "(")


def _tokens(text: str) -> list[tuple[str, str]]:
    """The lexer of labels/selector.go, with "" as the end of the string."""
    found: list[tuple[str, str]] = []
    i = 0
    while True:
        while i < len(text) and text[i] in " \t\r\n":
            i += 1
        if i >= len(text):
            return [*found, ("", "")]
        start = i
        if text[i] in "=!(),><":
            while i < len(text) and text[i] in "=!(),><" and text[start : i + 1] in _TOKENS:
                i += 1
        else:
            while i < len(text) and text[i] not in "=!(),>< \t\r\n":
                i += 1
        word = text[start:i]
        found.append((word if word in _TOKENS else _WORD, word))


class _LabelParser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.position = 0

    def look(self) -> str:
        token = self.tokens[self.position][0]
        return _WORD if token in {"in", "notin"} else token

    def take(self) -> tuple[str, str]:
        item = (self.look(), self.tokens[self.position][1])
        self.position += 1
        return item

    def parse(self) -> None:
        while self.look() != "":
            if self.look() not in {_WORD, "!"}:
                raise _LabelError
            self.requirement()
            token = self.take()[0]
            if token == "":
                return
            if token != "," or self.look() not in {_WORD, "!"}:
                raise _LabelError

    def requirement(self) -> None:
        token, key = self.take()
        negated = token == "!"
        if negated:
            token, key = self.take()
        if token != _WORD:
            raise _LabelError
        _check_key(key)
        if negated or self.look() in {"", ","}:
            return
        operator = self.tokens[self.position][0]
        self.position += 1
        if operator in {"in", "notin"}:
            values = self.values()
            if not values:
                raise _LabelError
        elif operator in {"=", "==", "!=", ">", "<"}:
            values = self.exact_value()
        else:
            raise _LabelError
        if operator in {">", "<"} and parse_int64(next(iter(values)).encode()) is None:
            raise _LabelError
        for value in values:
            _check_value(value)

    def exact_value(self) -> set[str]:
        if self.look() in {"", ","}:
            return {""}
        token, value = self.take()
        if token != _WORD:
            raise _LabelError
        return {value}

    def values(self) -> set[str]:
        if self.take()[0] != "(":
            raise _LabelError
        if self.look() == ")":
            self.take()
            return set()
        if self.look() not in {_WORD, ","}:
            raise _LabelError
        values = self.identifiers()
        if self.take()[0] != ")":
            raise _LabelError
        return values

    def identifiers(self) -> set[str]:
        values: set[str] = set()
        while True:
            token, value = self.take()
            if token == _WORD:
                values.add(value)
                if self.look() == ")":
                    return values
                if self.look() != ",":
                    raise _LabelError
            elif token == ",":
                if not values:
                    values.add("")
                if self.look() == ")":
                    values.add("")
                    return values
                if self.look() == ",":
                    self.take()
                    values.add("")
            else:
                raise _LabelError


def _check_key(key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    label = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    if slash and (
        not prefix or len(prefix) > 253 or re.fullmatch(rf"{label}(\.{label})*", prefix) is None
    ):
        raise _LabelError
    if not name:
        raise _LabelError
    _check_value(name)


def _check_value(value: str) -> None:
    if len(value) > 63 or not re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value):
        raise _LabelError


def labels_parse(text: str) -> bool:
    """Whether labels.Parse accepts the text (which has no NUL)."""
    try:
        _LabelParser(text).parse()
    except _LabelError:
        return False
    return True
