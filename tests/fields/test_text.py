"""Tests of the types for safe text."""

import pytest
from pydantic import TypeAdapter, ValidationError

from lastmile.contract import Decision, DeprovisionSubscriber, ProvisionSubscriber
from lastmile.fields.stored import STORED
from lastmile.fields.text import Text
from lastmile.fields.unsafe import escape

UNSAFE = ["\x1b[2J", "\x1b]0;owned\x07", "a\0b", "\x9b31m", "a\u202eb", "\u2066", "a\nb", "\x7f", "a\u2028b"]
TEXT = TypeAdapter(Text)


@pytest.mark.parametrize("text", UNSAFE)
def test_unsafe_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="without control characters and bidirectional overrides"):
        TEXT.validate_python(text)


@pytest.mark.parametrize("text", ["Zoë", "Łukasz Żółć", "محمد", "日本", "a\u200db", ""])
def test_text_of_any_language_is_accepted(text: str) -> None:
    assert TEXT.validate_python(text) == escape(text) == text


@pytest.mark.parametrize("text", UNSAFE)
def test_unsafe_text_that_was_stored_is_escaped(text: str) -> None:
    loaded = TEXT.validate_python(text, context=STORED)
    assert loaded == escape(text) != text
    assert TEXT.validate_python(loaded) == loaded


def test_escape_with_keep_lines_keeps_line_feeds() -> None:
    assert escape("\x1b[2J\0\x9b\u202e\n") == "\\x1b[2J\\x00\\x9b\\u202e\\x0a"
    assert escape("a\n\x1b", keep_lines=True) == "a\n\\x1b"


@pytest.mark.parametrize("text", UNSAFE)
def test_every_text_of_the_contract_refuses_unsafe_characters(text: str) -> None:
    """A new field of type `str` without a rule makes this test fail."""
    complaints = set()
    for model in (ProvisionSubscriber, DeprovisionSubscriber, Decision):
        for path in text_fields(model.model_json_schema()):
            try:
                model.model_validate(nested(path, text))
            except ValidationError as failure:
                found = {".".join(map(str, error["loc"])) for error in failure.errors() if error["type"] != "missing"}
                assert path in found, f"{model.__name__}.{path}"
                complaints.add(path)
    assert {
        "requested_by",
        "customer.name",
        "customer.email",
        "line.circuit_id",
        "reason",
        "by",
        "why",
        "step",
    } <= complaints


def text_fields(schema: dict[str, object], above: str = "", root: dict[str, object] | None = None) -> list[str]:
    """Return the paths of all text fields."""
    root = root or schema
    found = []
    for name, field in schema.get("properties", {}).items():  # type: ignore[attr-defined]
        for variant in field.get("anyOf", [field]):
            reference = variant.get("$ref", "").rpartition("/")[2]
            target = root["$defs"][reference] if reference else variant  # type: ignore[index]
            if target.get("properties"):
                found += text_fields(target, f"{above}{name}.", root)
            elif target.get("type") == "string":
                found.append(above + name)
    return found


def nested(path: str, value: str) -> dict[str, object]:
    *above, name = path.split(".")
    made: dict[str, object] = {name: value}
    for part in reversed(above):
        made = {part: made}
    return made
