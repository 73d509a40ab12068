"""The words of the policy language, each checked at its place. Called by `policy`."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

RESOURCE_VERBS: Final = frozenset(
    {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
)
"""The verbs that Kubernetes makes of requests for resources."""

WORDS: Final = {
    "logs": frozenset({"get"}),
    "exec": frozenset({"get", "create"}),
    "portforward": frozenset({"get", "create"}),
    "proxy": frozenset({"get", "create", "update", "patch", "delete"}),
}
"""The words that people mean, with the Kubernetes verbs that each of them is."""

HTTP_METHODS: Final = frozenset({"get", "head", "post", "put", "patch", "delete"})
"""The verbs of non-resource requests."""

_KNOWN_VERBS: Final = frozenset((*RESOURCE_VERBS, *WORDS, *HTTP_METHODS, "impersonate", "*"))
_LISTED_VERBS: Final = ", ".join([*sorted(RESOURCE_VERBS), *WORDS, "impersonate", "*"])
_RESERVED_VERBS: Final = ("bind", "escalate", "approve", "sign", "use")
_LONGEST_TEXT: Final = 512
_KINDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}

_RESOURCE = re.compile(
    r"[a-z0-9*-]+(?:\.(?:[a-z0-9*]+(?:[.-]+[a-z0-9*]+)*)?)?(?:/[A-Za-z0-9*_.:-]+)?"
)
_LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,315}[A-Za-z0-9])?")
_OWN_GROUP: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_RESERVED_ISSUERS: Final = frozenset({"system", "mk8s", "federated"})
LONGEST_GROUP_BYTES: Final = 256
_ROLE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,61}[A-Za-z0-9])?")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[A-Za-z0-9.-]{1,253}")
_URL_PATH = re.compile(r"\*|/[!-)+-~]*\*?")


class PolicyError(Exception):
    """A mistake in a policy.

    Attributes:
        place: where, such as "roles[0].clusters[1].verbs[2]"; empty for the whole document.
        problem: what is wrong and what to do.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place
        self.problem = problem


class Place:
    """A value of the document together with the way to it."""

    __slots__ = ("path", "value")

    def __init__(self, value: object, path: str = "") -> None:
        self.value = value
        self.path = path

    def error(self, problem: str) -> PolicyError:
        """Make the error of this place."""
        return PolicyError(self.path, problem)

    def mapping(self) -> dict[str, Any]:
        """Return the mapping that must be here."""
        if not isinstance(self.value, dict):
            raise self.error(f"must be a mapping, not {_kind(self.value)}")
        for key in self.value:
            if not isinstance(key, str):
                raise self.error(f"the key {key!r} must be a string: put it in quotes")
        return self.value

    def only_keys(self, *known: str) -> None:
        """Refuse keys that mean nothing here."""
        for key in self.mapping():
            if key not in known:
                wanted = ", ".join(known)
                nearest = self.nearest(key, known) or f": known are {wanted}"
                raise Place(None, self.path_of(key)).error(f"unknown key{nearest}")

    def has(self, key: str) -> bool:
        """Whether the mapping here has the key."""
        return key in self.mapping()

    def key(self, key: str) -> "Place":
        """Go to a key; if it is missing, its place holds None."""
        return Place(self.mapping().get(key), self.path_of(key))

    def path_of(self, key: str) -> str:
        """Write the way to a key."""
        key = key if key.isprintable() else repr(key)
        return f"{self.path}.{key}" if self.path else key

    def optional(self, key: str, default: object = ()) -> "Place":
        """Go to a key that may be missing, where `default` stands instead."""
        return self.key(key) if self.has(key) else Place(default, self.path)

    def items(self) -> Iterator["Place"]:
        """Go through the list that must be here."""
        if not isinstance(self.value, list | tuple):
            raise self.error(f"must be a list, not {_kind(self.value)}")
        for index, value in enumerate(self.value):
            yield Place(value, f"{self.path}[{index}]")

    def text(self, *, empty: bool = False) -> str:
        """Return the string that must be here."""
        if not isinstance(self.value, str):
            raise self.error(f"must be a string, not {_kind(self.value)}: put it in quotes")
        if not self.value and not empty:
            raise self.error("must not be empty")
        if len(self.value) > _LONGEST_TEXT or not self.value.isprintable():
            raise self.error(f"must be printable and have {_LONGEST_TEXT} characters at most")
        return self.value

    def flag(self) -> bool:
        """Return the boolean that must be here."""
        if not isinstance(self.value, bool):
            raise self.error(f"must be true or false, not {_kind(self.value)}")
        return self.value

    def nearest(self, word: str, known: Iterable[str]) -> str:
        """Return `: did you mean "..."?`, or nothing if no known word is near."""
        near = difflib.get_close_matches(word, sorted(known), n=1)
        return f': did you mean "{near[0]}"?' if near else ""


def _kind(value: object) -> str:
    if value is None:
        return "missing or empty"
    return _KINDS.get(type(value), type(value).__name__)


def check_glob(place: Place, *, empty: bool = False) -> str:
    """Check a glob: text in which `*` stands for any characters, and nothing else is special."""
    text = place.text(empty=empty)
    if any(character in text for character in "?[]{}\\"):
        raise place.error("only * is special in a pattern: write ? [ ] { } and \\ as *")
    return text


def check_verb(place: Place) -> str:
    """Check a verb."""
    verb = place.text()
    if verb in _RESERVED_VERBS:
        raise place.error(f'"{verb}" is checked by the cluster itself: leave it out')
    if verb not in _KNOWN_VERBS:
        nearest = place.nearest(verb, _KNOWN_VERBS) or f": known are {_LISTED_VERBS}"
        raise place.error(f'unknown verb "{verb}"{nearest}')
    return verb


def check_resource(place: Place) -> str:
    """Check a resource: `pods`, `deployments.apps`, `pods.` (core only), `pods/log`, `*/*`."""
    resource = place.text()
    if not _RESOURCE.fullmatch(resource):
        raise place.error(
            f'"{resource}" is no resource: write it as "pods", "deployments.apps" or "pods/log"'
        )
    return resource


def check_url_path(place: Place) -> str:
    """Check a non-resource URL: a path, with `*` as its last character or alone."""
    path = place.text()
    if not _URL_PATH.fullmatch(path):
        raise place.error('must start with "/" and may have one * as its last character')
    return path


def check_label_key(place: Place, key: str) -> str:
    """Check the key of a cluster's label."""
    if not _LABEL_KEY.fullmatch(key):
        raise place.error(f"{key!r} is no label key: letters, digits, dots, dashes, slashes")
    return key


def check_role_name(place: Place) -> str:
    """Check the name of a role."""
    name = place.text()
    if not _ROLE_NAME.fullmatch(name):
        raise place.error("must be 1 to 63 letters, digits, dots, dashes, colons or underscores")
    return name


def check_email(place: Place) -> str:
    """Check the email of a user, and write it in lower case."""
    email = place.text()
    if not _EMAIL.fullmatch(email):
        raise place.error(f'"{email}" is no email address')
    return email.lower()


def check_group_name(place: Place) -> str:
    """Check the name of a group: of mk8s like `devs`, or of an issuer like `acme:devs`.

    Never one to which Kubernetes or mk8s gives a meaning, nor that of a federation rule, whose
    roles are given with the rule.
    """
    name = place.text()
    issuer, colon, rest = name.partition(":")
    if not colon:
        if not _OWN_GROUP.fullmatch(name):
            raise place.error(
                "must be 1 to 63 letters, digits, dots, dashes or underscores, or ISSUER:GROUP"
            )
        return name
    if issuer.casefold() in _RESERVED_ISSUERS:
        raise place.error(
            f'no group of a login is called "{issuer}:...": name an issuer of central'
        )
    too_long = len(name.encode("utf-8", "surrogatepass")) > LONGEST_GROUP_BYTES
    if not issuer or not rest or name != name.strip() or too_long:
        raise place.error(f'"{name}" is no group: write ISSUER:GROUP, 256 bytes at most')
    return name
