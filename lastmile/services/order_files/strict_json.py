"""A strict parser for the JSON of orders: it reports repeated fields, which would have two meanings."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lastmile.errors import LastmileError

__all__ = ["InvalidJsonError", "decoder", "json_line", "parse", "repeated_fields"]


class InvalidJsonError(LastmileError):
    """The text is not JSON. The message says where; `end`: the text only ends too early."""

    def __init__(self, words: str, *, position: int = 0, end: bool = False) -> None:
        super().__init__(words)
        self.position = position
        self.end = end


class _Repeating(dict[str, Any]):
    """An object with a repeated field."""

    repeated: Sequence[str] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeating = _Repeating(made)
    names = [name for name, _ in pairs]
    repeating.repeated = [name for name in made if names.count(name) > 1]
    return repeating


def _constant(name: str) -> Any:
    raise InvalidJsonError(f"Invalid JSON: {name} is no number in JSON")


decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def parse(text: str, start: int = 0) -> tuple[Any, int]:
    """Return the value that begins at `start`, and its end. Raises `InvalidJsonError`."""
    try:
        return decoder.raw_decode(text, start)
    except json.JSONDecodeError as failure:
        place = failure.pos
        early = not text[place:].strip() or failure.msg.startswith("Unterminated string")
        words = "Invalid JSON: it ends too early" if early else f"Invalid JSON at character {place + 1 - start}"
        raise InvalidJsonError(words, position=place, end=early) from None
    except ValueError:
        raise InvalidJsonError("Invalid JSON: a number has too many digits", position=start) from None
    except RecursionError:
        raise InvalidJsonError("Invalid JSON: it is nested too deeply", position=start) from None


def repeated_fields(value: Any, above: str = "") -> Iterator[str]:
    """Yield the paths of repeated fields."""
    if isinstance(value, _Repeating):
        yield from (above + name for name in value.repeated)
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from repeated_fields(inner, f"{above}{name}.")


def json_line(fields: Mapping[str, Any]) -> bytes:
    """Write an object on one line."""
    # Half of a surrogate pair is JSON (`\\ud800`) and not UTF-8.
    return (json.dumps(fields, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
