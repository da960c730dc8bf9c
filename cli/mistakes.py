"""What pydantic finds wrong, in the words of whoever wrote it: where, what, and what would be right."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["mistakes"]

_REFERENCE = "letters, digits, '-', '_' and single dots, at most 64 characters"

# What the patterns of the models ask for, by the name of the field.
PATTERN_WORDS = {
    "tenant": "lower-case letters, digits and '-', at most 32 characters",
    "order_id": _REFERENCE,
    "subscriber_ref": _REFERENCE,
    "ref": _REFERENCE,
    "olt": _REFERENCE,
    "price_ref": _REFERENCE,
    "name": "printable characters only; names of plans, pools and NAS are letters, digits, '-' and '_'",
    "email": "an address as in ada@example.net",
    "phone": "digits, spaces and ()/-, with or without a leading +",
    "onu_serial": "four letters of the vendor and eight hexadecimal digits, as in HWTC0A1B2C3D (ITU-T G.984.3)",
    "pon_port": "letters, digits and /.:_-, as in 0/1/3, at most 32 characters",
    "reason": "printable characters only",
    "circuit_id": "printable characters only",
    "remote_id": "printable characters only",
    "ipv6_pool": "the name of a pool",
    "ipv4_pool": "the name of a pool",
    "region": "letters, digits, '.', '_' and '-', at most 64 characters",
    "country": "two capital letters, as in NL (ISO 3166-1)",
}


def mistakes(error: ValidationError, model: type[BaseModel], names: Mapping[str, str] | None = None) -> list[str]:
    """Everything that is wrong, a line each: `line.s_vlan: must be at most 4094, and is 5000`.

    `names` replaces field paths, as by the options that they come from.
    """
    # Each member of a union complains; the same words twice are one mistake.
    return list(dict.fromkeys(_sentence(found, model, names or {}) for found in error.errors(include_url=False)))


def _sentence(found: Any, model: type[BaseModel], names: Mapping[str, str]) -> str:
    path = ".".join(str(part) for part in found["loc"] if "[" not in str(part))  # no names of pydantic's own
    words = _words(found, model)
    return f"{names.get(path, path)}: {words}" if path else words


def _words(found: Any, model: type[BaseModel]) -> str:
    kind, loc, got = found["type"], found["loc"], _shown(found["input"])
    limits = found.get("ctx", {})
    match kind:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"is no field of this{_suggestion(model, loc)}"
        case "json_invalid":
            return f"is not JSON: {limits['error'].replace(' at line 1 column ', ', at character ')}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be an object, as in {{…}}, and is {got}"
        case "string_pattern_mismatch":
            return f"must be {PATTERN_WORDS.get(str(loc[-1]), 'written otherwise')}; {got} is not"
        case "string_too_short" if limits["min_length"] == 1:
            return "must not be empty"
        case "int_parsing" | "int_type" | "int_from_float":
            return f"must be a whole number, and is {got}"
        case "string_unicode":
            return f"must be UTF-8, and is {got}"
        case "bool_parsing" | "bool_type":
            return f"must be true or false, and is {got}"
        case "enum" | "literal_error":
            return f"must be {limits['expected']}, and is {got}"
        case "greater_than_equal":
            return f"must be at least {limits['ge']}, and is {got}"
        case "less_than_equal":
            return f"must be at most {limits['le']}, and is {got}"
        case "ip_v4_address" | "ip_v6_address":
            return f"must be an IP address, and is {got}"
        case "ip_v4_network" | "ip_v6_network":
            return f"must be a prefix, as in 2001:db8::/32, and is {got}"
        case "value_error":
            return str(limits["error"])
        case _:
            message = found["msg"].replace("Input should be", "must be")
            return f"{message[0].lower()}{message[1:]}, and is {got}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _suggestion(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """The field that was probably meant."""
    fields: Any = model.model_fields
    for part in loc[:-1]:
        fields = getattr(fields[part].annotation, "model_fields", {})
    close = get_close_matches(str(loc[-1]), fields, n=1)
    return f": did you mean {close[0]!r}?" if close else f" (it has {', '.join(fields)})"
