"""Name what a change of the API's document breaks for the programs that use the API.

A request that was valid must stay valid, and an answer must keep what programs read. So each of these is a breaking
change: a path, a method, a parameter or a field that is gone; a value that a request may have no more; a field or a
parameter that a request must have now; a field that an answer may lack now; another type.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

__all__ = ["breaking_changes"]

Schema = Mapping[str, Any]
Direction = Literal["request", "answer"]


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Return a sentence for each breaking change between two documents of OpenAPI 3.1."""
    return sorted(set(_Comparison(old, new).run()))


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new
        self._compared: set[tuple[str, str, Direction]] = set()
        """Schemas by name that have been compared, since schemas can contain themselves."""

    def run(self) -> Iterator[str]:
        for path, methods in self._old["paths"].items():
            for method, before in methods.items():
                name = f"{method.upper()} {path}"
                after = self._new["paths"].get(path, {}).get(method)
                if after is None:
                    yield f"{name} is gone"
                else:
                    yield from self._operation(name, before, after)

    def _operation(self, name: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = _parameters(old), _parameters(new)
        for parameter in before.keys() - after.keys():
            yield f"{name}: parameter {parameter} is gone"
        for parameter, described in after.items():
            if described.get("required") and not before.get(parameter, {}).get("required"):
                yield f"{name}: parameter {parameter} is required now"
        for parameter in before.keys() & after.keys():
            yield from self._schemas(
                f"{name}: parameter {parameter}",
                before[parameter].get("schema", {}),
                after[parameter].get("schema", {}),
                "request",
            )
        if "requestBody" in new and "requestBody" not in old and new["requestBody"].get("required"):
            yield f"{name}: a body is required now"
        yield from self._contents(f"{name}: body", old.get("requestBody", {}), new.get("requestBody", {}), "request")
        for status in old["responses"].keys() - new["responses"].keys():
            yield f"{name}: answer {status} is gone"
        for status in old["responses"].keys() & new["responses"].keys():
            yield from self._contents(
                f"{name}: answer {status}", old["responses"][status], new["responses"][status], "answer"
            )

    def _contents(self, where: str, old: Schema, new: Schema, direction: Direction) -> Iterator[str]:
        before, after = _resolve(self._old, old).get("content", {}), _resolve(self._new, new).get("content", {})
        for media_type in before.keys() - after.keys():
            yield f"{where}: media type {media_type} is gone"
        for media_type in before.keys() & after.keys():
            yield from self._schemas(
                where, before[media_type].get("schema", {}), after[media_type].get("schema", {}), direction
            )

    def _schemas(self, where: str, old: Schema, new: Schema, direction: Direction) -> Iterator[str]:
        if "$ref" in old and "$ref" in new:
            pair = (old["$ref"], new["$ref"], direction)
            if pair in self._compared:
                return
            self._compared.add(pair)
            where = f"{where} ({_name(old)})"
        old, new = _resolve(self._old, old), _resolve(self._new, new)
        if old.get("type") != new.get("type") and not _widens(old, new, direction):
            yield f"{where}: the type {_type(old)} is {_type(new)} now"
            return
        narrowed = (old, new) if direction == "request" else (new, old)
        if "enum" in old and "enum" in new:
            for value in [value for value in narrowed[0]["enum"] if value not in narrowed[1]["enum"]]:
                yield f"{where}: the value {value!r} is {'gone' if direction == 'request' else 'new'}"
        yield from self._fields(where, old, new, direction)
        if "items" in old and "items" in new:
            yield from self._schemas(f"{where}[]", old["items"], new["items"], direction)
        yield from self._members(where, old, new, direction)

    def _fields(self, where: str, old: Schema, new: Schema, direction: Direction) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for field in before.keys() - after.keys():
            yield f"{where}: field {field} is gone"
        required = set(old.get("required", ())), set(new.get("required", ()))
        if direction == "request":
            yield from (f"{where}: field {field} is required now" for field in required[1] - required[0])
        else:
            kept = (required[0] - required[1]) & after.keys()
            yield from (f"{where}: field {field} may be missing now" for field in kept)
        for field in before.keys() & after.keys():
            yield from self._schemas(f"{where}.{field}", before[field], after[field], direction)

    def _members(self, where: str, old: Schema, new: Schema, direction: Direction) -> Iterator[str]:
        for union in ("anyOf", "oneOf"):
            before = {_name(member): member for member in old.get(union, ())}
            after = {_name(member): member for member in new.get(union, ())}
            lost = before.keys() - after.keys() if direction == "request" else after.keys() - before.keys()
            for member in lost if before and after else ():
                yield f"{where}: {member} is {'gone' if direction == 'request' else 'new'}"
            for member in before.keys() & after.keys():
                yield from self._schemas(where, before[member], after[member], direction)


def _parameters(operation: Schema) -> dict[str, Schema]:
    return {f"{one['name']} ({one['in']})": one for one in operation.get("parameters", ())}


def _resolve(document: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        _, kind, name = str(schema["$ref"]).rsplit("/", 2)
        schema = document["components"][kind][name]
    return schema


def _name(schema: Schema) -> str:
    """Return the name of a schema among the members of a union."""
    return str(schema["$ref"]).rpartition("/")[2] if "$ref" in schema else _type(schema)


def _type(schema: Schema) -> str:
    kind = schema.get("type", "anything" if "anyOf" not in schema and "oneOf" not in schema else "a union")
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)


def _widens(old: Schema, new: Schema, direction: Direction) -> bool:
    """Return whether a request may be more than before: one member of a union that now has others."""
    members = [_type(member) for union in ("anyOf", "oneOf") for member in new.get(union, ())]
    return direction == "request" and _type(old) in members
