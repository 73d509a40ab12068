r"""What Kubernetes reads from the query of a list: watch or not, and which single object is meant.

Called by `request_info`. The rules are those of apimachinery: `runtime/converter.go` (booleans and
int64), `fields/selector.go`, `labels/selector.go`, and `NewRequestInfo` for their combination: if
any option does not parse, the name in the field selector is not used, while `watch` still counts.
What Kubernetes itself reads in two ways is refused. The tests ask its own library (tests/oracle).
"""

import re
from typing import Final, NamedTuple

from mk8s_proxy.kube.request_target import TargetRefusal, decode_parameter


class ListOptions(NamedTuple):
    """The part of metav1.ListOptions that decides about access."""

    watch: bool = False
    name: str = ""
    """The object that the field selector limits the list to, "" if it does not."""
    field_selector: str = ""
    """As sent, decoded, whether it parses or not."""
    label_selector: str = ""
    """As sent, decoded, whether it parses or not."""


_NO_OPTIONS = ListOptions()

MAXIMUM_TERMS: Final = 4096
"""Terms of a field selector: each costs more to read than to send."""
_TELLING: Final = re.compile(rb"watch|Selector|[%+]")
"""What a query says that decides about access, or hides it. Most only have a limit."""
_INT64 = re.compile(rb"([+-]?)0*([0-9]{1,19})")

_SPACE = r"[ \t\r\n]*+"
_VALUE = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?+"
_DNS_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_KEY = rf"(?:(?=[-a-z0-9.]{{1,253}}/){_DNS_LABEL}(?:\.{_DNS_LABEL})*/)?{_VALUE}"
# Any of the values may be empty. Older API servers (1.28) consume commas in pairs and so refuse
# some of these; they answer 400 then, whatever is decided here.
_VALUE_SET = rf"\({_SPACE}(?:{_VALUE}{_SPACE})?(?:,{_SPACE}(?:{_VALUE}{_SPACE})?)*+\)"
_REQUIREMENT = (
    rf"(?:!{_SPACE}{_KEY}|{_KEY}(?:{_SPACE}(?:==?|!=){_SPACE}(?:{_VALUE})?"
    rf"|{_SPACE}[<>]{_SPACE}[0-9]{{1,63}}|(?=[ \t\r\n]){_SPACE}(?:in|notin){_SPACE}{_VALUE_SET})?)"
)
_LABEL_SELECTOR = re.compile(
    rf"{_SPACE}(?:{_REQUIREMENT}{_SPACE}(?:,{_SPACE}{_REQUIREMENT}{_SPACE})*)?"
)
_COMPARISON = re.compile(rf"[<>]{_SPACE}0*([0-9]+)")
_INT64_LIMIT: Final = 2**63

_FIELD_TERM = re.compile(rb"(?:[^\\,]|\\.)*+\\?", re.DOTALL)
_FIELD_OPERATOR = re.compile(rb"!=|==|=")
_FIELD_VALUE = re.compile(rb"(?:[^\\,=]|\\[\\,=])*+")
_FIELD_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def parse_list_options(query: bytes) -> ListOptions:
    """Read the options of a GET without a name. The query must have passed `parse_target`.

    Raises:
        TargetRefusal: Kubernetes itself reads such a query in two ways.
    """
    if not _TELLING.search(query):
        return _NO_OPTIONS
    parameters = _parameters(query)
    watch = parameters.get(b"watch")
    field_selector = _selector(parameters, b"fieldSelector")
    label_selector = _selector(parameters, b"labelSelector")
    if "\0" in label_selector:
        # There the Kubernetes parser stops reading, and other servers may go on.
        raise TargetRefusal("BAD_SELECTOR", 400, "the labelSelector contains a NUL")
    if field_selector.count(",") >= MAXIMUM_TERMS:
        message = f"the fieldSelector has more than {MAXIMUM_TERMS} terms"
        raise TargetRefusal("BAD_SELECTOR", 400, message)
    name = b""
    if field_selector and _parses(parameters, label_selector):
        name = _exact_name(field_selector.encode())
    return ListOptions(
        watch is not None and read_bool(watch),
        name.decode(),
        field_selector,
        label_selector,
    )


def _parameters(query: bytes) -> dict[bytes, bytes]:
    """The first value of every parameter; a key without "=" has the empty value."""
    parameters: dict[bytes, bytes] = {}
    encoded = b"%" in query or b"+" in query
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if encoded:
            key, value = decode_parameter(key), decode_parameter(value)
        parameters.setdefault(key, value)
    return parameters


def _selector(parameters: dict[bytes, bytes], key: bytes) -> str:
    """A selector, if it is UTF-8.

    What is not stays as it is in a value of a field selector, but is replaced if the value has an
    escape too (fields.UnescapeValue).
    """
    try:
        return parameters.get(key, b"").decode()
    except UnicodeDecodeError:
        message = f"the {key.decode()} is not UTF-8"
        raise TargetRefusal("BAD_SELECTOR", 400, message) from None


def read_bool(text: bytes) -> bool:
    """What apimachinery reads from the text of a parameter that is there: anything but no is yes.

    Raises:
        TargetRefusal: the text is not ASCII. `Convert_Slice_string_To_bool` compares with
            `strings.EqualFold`, to which the long s of "fal\u017fe" is an s, and RequestInfo, when
            another parameter does not parse, with `strings.ToLower`, to which it is not.
    """
    if not text.isascii():
        raise TargetRefusal("BAD_BOOL", 400, "a parameter that is true or false is neither")
    return text.lower() not in (b"false", b"0")


def _parses(parameters: dict[bytes, bytes], label_selector: str) -> bool:
    return (
        read_int64(parameters.get(b"limit", b"0")) is not None
        and read_int64(parameters.get(b"timeoutSeconds", b"0")) is not None
        and is_label_selector(label_selector)
    )


def read_int64(text: bytes) -> int | None:
    """The number that Go's `strconv.ParseInt(text, 10, 64)` reads; None where it is an error."""
    match = _INT64.fullmatch(text)
    if match is None:
        return None
    sign, digits = match.groups()
    number = -int(digits) if sign == b"-" else int(digits)
    return number if -_INT64_LIMIT <= number < _INT64_LIMIT else None


def is_label_selector(text: str) -> bool:
    """Whether `labels.Parse` accepts the text; a NUL, where Go stops reading, is not accepted."""
    if not _LABEL_SELECTOR.fullmatch(text):
        return False
    return all(int(digits) < _INT64_LIMIT for digits in _COMPARISON.findall(text))


def _exact_name(selector: bytes) -> bytes:
    """The value that `metadata.name` must equal, b"" if the selector does not say or is invalid."""
    name: bytes | None = None
    for term in sorted(_split_terms(selector)):
        if not term:
            continue
        operator = _FIELD_OPERATOR.search(term)
        if operator is None or not _FIELD_VALUE.fullmatch(value := term[operator.end() :]):
            return b""
        is_name = term[: operator.start()] == b"metadata.name" and operator[0] != b"!="
        if is_name and name is None:
            name = _FIELD_ESCAPE.sub(rb"\1", value)
    if name is None or name in (b".", b"..") or b"/" in name or b"%" in name:
        return b""  # not a path segment (apimachinery, IsValidPathSegmentName)
    return name


def _split_terms(selector: bytes) -> list[bytes]:
    """Split on the commas that no backslash escapes."""
    terms: list[bytes] = []
    position = 0
    while position <= len(selector):
        match = _FIELD_TERM.match(selector, position)
        assert match is not None  # the pattern matches the empty string
        terms.append(match[0])
        position = match.end() + 1
    return terms
