"""One kubeconfig file as a tree of YAML nodes, changed without disturbing the rest. No I/O.

Called by `kubeconfig.py`. The file is composed, not loaded: scalars keep their exact text and
quotes, so that an octal-looking name or a timestamp of somebody else's entry is written back as it
was read. Only comments are lost, as with every `kubectl config` command.
"""

from collections.abc import Iterator, Mapping, Sequence

import yaml
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mk8s_cli.terminal.errors import CliError

VALUE_KEYS = {"clusters": "cluster", "users": "user", "contexts": "context"}
"""The three lists of a kubeconfig and under which key each of their entries holds its value."""

MAX_BYTES = 16 << 20
MAX_DEPTH = 200

Value = str | bool | Sequence["Value"] | Mapping[str, "Value"]

# The C versions are 10 times faster and absent from some builds of PyYAML.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TAG = "tag:yaml.org,2002:"


class Malformed(CliError):
    """The text is no kubeconfig; nothing was changed."""


class Document:
    """The root mapping of one file; `changed` says whether it differs from what was read."""

    def __init__(self, root: MappingNode) -> None:
        """Hold `root`, whose shape was checked by `parse`."""
        self.root = root
        self.changed = False

    def entries(self, kind: str) -> Iterator[tuple[str, MappingNode]]:
        """Yield name and value of the entries of `kind`, in file order."""
        listed = child(self.root, kind)
        for entry in listed.value if isinstance(listed, SequenceNode) else ():
            value = child(entry, VALUE_KEYS[kind])
            if isinstance(value, MappingNode):
                yield scalar(entry, "name"), value

    def find(self, kind: str, name: str) -> MappingNode | None:
        """Return the value of an entry."""
        return next((value for found, value in self.entries(kind) if found == name), None)

    def add(self, kind: str, name: str) -> MappingNode:
        """Append an empty entry and return its value."""
        listed = child(self.root, kind)
        if not isinstance(listed, SequenceNode):
            listed = SequenceNode(f"{_TAG}seq", [], flow_style=False)
            replace_child(self.root, kind, listed)
        # An empty list is written as []: entries in it must be in block style again.
        listed.flow_style = bool(listed.value) and listed.flow_style
        value = MappingNode(f"{_TAG}map", [], flow_style=False)
        entry = MappingNode(f"{_TAG}map", [], flow_style=False)
        replace_child(entry, "name", node(name))
        replace_child(entry, VALUE_KEYS[kind], value)
        listed.value.append(entry)
        self.changed = True
        return value

    def rename(self, kind: str, old: str, new: str) -> None:
        """Give the entries of `kind` called `old` the name `new`."""
        listed = child(self.root, kind)
        for entry in listed.value if isinstance(listed, SequenceNode) else ():
            if scalar(entry, "name") == old:
                replace_child(entry, "name", node(new))
                self.changed = True

    def remove(self, kind: str, name: str) -> None:
        """Remove the entries of `kind` called `name`."""
        listed = child(self.root, kind)
        if not isinstance(listed, SequenceNode):
            return
        kept = [entry for entry in listed.value if scalar(entry, "name") != name]
        if len(kept) < len(listed.value):
            listed.value[:] = kept
            self.changed = True

    def set_fields(self, mapping: MappingNode, fields: Mapping[str, Value]) -> None:
        """Set `fields` in a mapping of this document; what is equal already stays as it is."""
        for key, value in fields.items():
            new = node(value)
            old = child(mapping, key)
            if old is None or yaml.serialize(old, Dumper=_DUMPER) != yaml.serialize(
                new, Dumper=_DUMPER
            ):
                replace_child(mapping, key, new)
                self.changed = True

    def drop_fields(self, mapping: MappingNode, keys: Sequence[str]) -> None:
        """Remove `keys` from a mapping of this document."""
        kept = [pair for pair in mapping.value if pair[0].value not in keys]
        if len(kept) < len(mapping.value):
            mapping.value[:] = kept
            self.changed = True


def parse(content: bytes, source: str) -> Document:
    """Return the document in `content`; an empty one is an empty kubeconfig.

    Raises:
        Malformed: it is not one YAML mapping with the lists a kubeconfig has; names `source`.
    """
    try:
        if len(content) > MAX_BYTES:
            raise Malformed(f"{source} is larger than any kubeconfig (it was not changed)")
        text = content.decode()
        _refuse_depth(text, source)
        root = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        raise Malformed(
            f"the kubeconfig {source} is not valid YAML{place}; "
            "mend or move it (it was not changed)"
        ) from error
    if root is None or (isinstance(root, ScalarNode) and root.value in {"", "null", "~"}):
        return empty()
    return Document(_checked(root, source))


def empty() -> Document:
    """Return a kubeconfig without entries."""
    root = MappingNode(f"{_TAG}map", [], flow_style=False)
    fields: dict[str, Value] = {"apiVersion": "v1", "kind": "Config"}
    for key, value in fields.items():
        replace_child(root, key, node(value))
    return Document(root)


def serialize(document: Document) -> bytes:
    """Return the text to write."""
    text = yaml.serialize(document.root, Dumper=_DUMPER, allow_unicode=True, width=1 << 20)
    return str(text).encode()


def child(mapping: Node, key: str) -> Node | None:
    """Return the value of `key` if `mapping` is a mapping that has it."""
    if not isinstance(mapping, MappingNode):
        return None
    return next((value for name, value in mapping.value if name.value == key), None)


def scalar(mapping: Node, key: str) -> str:
    """Return the text of the scalar at `key`, "" for anything else."""
    value = child(mapping, key)
    return value.value if isinstance(value, ScalarNode) and value.tag != f"{_TAG}null" else ""


def scalars(mapping: Node, key: str) -> tuple[str, ...]:
    """Return the texts of the list of scalars at `key`, () for anything else."""
    value = child(mapping, key)
    if not isinstance(value, SequenceNode):
        return ()
    return tuple(item.value for item in value.value if isinstance(item, ScalarNode))


def replace_child(mapping: MappingNode, key: str, value: Node) -> None:
    """Set `key` in place, or append it."""
    for index, (name, _) in enumerate(mapping.value):
        if name.value == key:
            mapping.value[index] = (name, value)
            return
    mapping.value.append((node(key), value))


def node(value: Value) -> Node:
    """Return the YAML node of a plain value; the writer quotes what would read differently."""
    if isinstance(value, bool):
        return ScalarNode(f"{_TAG}bool", "true" if value else "false")
    if isinstance(value, str):
        return ScalarNode(f"{_TAG}str", value)
    if isinstance(value, Mapping):
        pairs = [(node(key), node(inner)) for key, inner in value.items()]
        return MappingNode(f"{_TAG}map", pairs, flow_style=False)
    return SequenceNode(f"{_TAG}seq", [node(inner) for inner in value], flow_style=False)


def _refuse_depth(text: str, source: str) -> None:
    """Raise `Malformed` for nesting at which libyaml's composer, recursing in C, would crash."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise Malformed(f"the kubeconfig {source} is nested too deep (it was not changed)")


def _checked(root: Node, source: str) -> MappingNode:
    mend = "mend or move it (it was not changed)"
    if not isinstance(root, MappingNode):
        raise Malformed(f"the kubeconfig {source} is not a mapping; {mend}")
    for kind in VALUE_KEYS:
        listed = child(root, kind)
        if listed is None or (isinstance(listed, ScalarNode) and listed.tag == f"{_TAG}null"):
            continue
        if not isinstance(listed, SequenceNode):
            raise Malformed(f"the kubeconfig {source}: '{kind}' is not a list; {mend}")
        for index, entry in enumerate(listed.value):
            if not scalar(entry, "name"):
                raise Malformed(f"the kubeconfig {source}: {kind}[{index}] has no name; {mend}")
    return root
