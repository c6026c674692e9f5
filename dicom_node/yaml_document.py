"""YAML documents whose mappings have each key once: YAML itself silently keeps the last."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

Place = tuple[int | str, ...]
"""Keys and indices from the top of a file down to a value."""


class RepeatedKey(yaml.MarkedYAMLError):
    """A mapping has a key twice."""


def load_yaml(text: str) -> object:
    """Load a document of plain values.

    Raises:
        RepeatedKey: A mapping has a key twice.
        yaml.YAMLError: The text is not YAML.
    """
    root = compose_yaml(text)
    if root is None:
        return None
    for place, node in repeated_keys(root):
        key = ".".join(map(str, place))
        raise RepeatedKey(problem=f"{key!r} occurs twice; keep one", problem_mark=node.start_mark)
    return plain_values(root)


def compose_yaml(text: str) -> yaml.Node | None:
    """Return the nodes of a document; None for an empty one.

    Raises:
        yaml.YAMLError: The text is not YAML.
    """
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    return root


def plain_values(root: yaml.Node) -> object:
    """Construct the values of a composed document.

    Raises:
        yaml.YAMLError: A value has a tag that is not plain YAML.
    """
    loader = yaml.SafeLoader("")
    try:
        values: object = loader.construct_document(root)
    finally:
        loader.dispose()
    return values


def children(node: yaml.Node) -> Iterator[tuple[int | str, yaml.Node, yaml.Node]]:
    """Yield the key or index of each entry, the node where it begins, and its value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key, value
    elif isinstance(node, yaml.SequenceNode):
        for place, value in enumerate(node.value):
            yield place, value, value


def repeated_keys(root: yaml.Node) -> Iterator[tuple[Place, yaml.Node]]:
    """Yield the place of each key that its mapping has already, and the node of the key."""
    yield from _repeated_below(root, (), set())


def _repeated_below(
    node: yaml.Node, place: Place, visited: set[int]
) -> Iterator[tuple[Place, yaml.Node]]:
    if id(node) in visited:  # an alias, which may lead back to itself
        return
    visited.add(id(node))
    seen: set[int | str] = set()
    for key, start, value in children(node):
        if key in seen:
            yield (*place, key), start
        seen.add(key)
        yield from _repeated_below(value, (*place, key), visited)
