"""Documents as MongoDB has them: nested by path, with GenieACS's queries and projections."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["matches", "nested", "projected"]

Document = dict[str, Any]


def nested(flat: Mapping[str, Document], objects: Iterable[str] = ()) -> Document:
    """Return a device's parameters nested by path, with `_object` at each object."""
    tree: Document = {}
    for path in objects:
        _object(tree, path.rstrip(".").split("."))
    for path, parameter in flat.items():
        *names, last = path.split(".")
        _object(tree, names)[last] = dict(parameter)
    return tree


def _object(tree: Document, names: list[str]) -> Document:
    for name in names:
        tree = tree.setdefault(name, {"_object": True})
    return tree


def projected(document: Document, projection: str) -> Document:
    """Return `_id` and the parts of the document that the projection names; an empty projection names all."""
    if not projection:
        return document
    shown: Document = {}
    for path in ("_id", *filter(None, projection.split(","))):
        names = path.split(".")
        part = _look_up(document, names)
        if part is None:
            continue
        node = shown
        for name in names[:-1]:
            node = node.setdefault(name, {})
        if names[-1] in node and isinstance(part, dict):
            continue  # a longer path of the projection is there already
        node[names[-1]] = part
    return shown


def _look_up(document: Document, names: list[str]) -> Any:
    node: Any = document
    for name in names:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def matches(document: Document, query: Mapping[str, Any], *, of_devices: bool) -> bool:
    """Return whether the document passes the query: equality, `$or` and `$and`.

    Of devices, a path of a parameter means its value, and a text that looks like a number matches the number too.
    """
    return all(_matches(document, key, value, of_devices) for key, value in query.items())


def _matches(document: Document, key: str, value: Any, of_devices: bool) -> bool:
    if key in ("$or", "$and"):
        found = [matches(document, one, of_devices=of_devices) for one in value]
        return any(found) if key == "$or" else all(found)
    names = key.split(".")
    if of_devices and not names[-1].startswith("_"):
        names.append("_value")
    stored = _look_up(document, names)
    wanted = [value]
    if of_devices and isinstance(value, str) and value.isdecimal():
        wanted.append(json.loads(value.lstrip("0") or "0"))
    return any(one in stored if isinstance(stored, list) else one == stored for one in wanted)
