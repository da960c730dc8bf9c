"""Messages for invalid orders, options and settings: the field, the rule and the value.

They replace the messages of pydantic, which no user sees.
"""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from lastmile.fields.rules import RULE

__all__ = ["describe_mistake", "mistakes", "setting_mistakes", "suggest_name"]

_REFERENCE = "letters, digits, '-', '_' and single dots, at most 64 characters"
_LABEL = "letters, digits, '.', '_' and '-', at most 64 characters"
_DEVICE_TEXT = "1 to 64 characters of printable ASCII, without a blank at the beginning or the end"

# The rule of each pattern in the models, by the name of the field.
PATTERN_WORDS = {
    "tenant": "lower-case letters, digits and '-', at most 32 characters",
    "id": "lower-case letters, digits and '-', at most 32 characters",
    "order_id": _REFERENCE,
    "subscriber_ref": _REFERENCE,
    "subscriber": _REFERENCE,
    "customer_ref": _REFERENCE,
    "Idempotency-Key": _REFERENCE,
    "suspended_by": _REFERENCE,
    "ref": _REFERENCE,
    "olt": _REFERENCE,
    "olts": _REFERENCE,
    "price_ref": _REFERENCE,
    "password_ref": _REFERENCE,
    "name": "letters, digits, '-' and '_'",
    "email": "an e-mail address, as in ada@example.net",
    "phone": "digits, spaces and ()./-, with or without a leading +",
    "pon_port": "letters, digits and /.:_-, as in 0/1/3, at most 32 characters",
    "onu_type": _DEVICE_TEXT,
    "speed_profile": _DEVICE_TEXT,
    "cpe_product_class": _DEVICE_TEXT,
    "models": _DEVICE_TEXT,
    "cpe_serial": _DEVICE_TEXT,
    "pool": f"the name of a pool: {_LABEL}",
    "ipv6_pool": f"the name of a pool: {_LABEL}",
    "ipv4_pool": f"the name of a pool: {_LABEL}",
    "type": "the name of an attribute template: lower-case letters, digits and '-'",
    "region": _LABEL,
    "vrf": "the name of a VRF: printable ASCII, at most 100 characters",
    "country": "two capital letters, as in NL (ISO 3166-1)",
    "deployment": "letters, digits, '-' and '_', at most 64 characters",
    "build_id": _LABEL,
    "api_cors_origins": "origins of pages with commas between them, as in https://crm.example.net, without a path",
    "source": "lower-case letters, digits and '-', at most 24 characters",
    "secret": "16 to 200 characters of printable ASCII without blanks",
    "codec_origin": "the origin of a page, as in https://temporal.example.net, without a path",
}

# The rule for each of pydantic's error types, with its limits.
_RULES = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "date_from_datetime_inexact": "a date",
    "enum": "{expected}",
    "finite_number": "a number that is finite",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of at most 18 digits",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "path_not_directory": "an existing directory",
    "path_not_file": "an existing file",
    "path_type": "the path of a file",
    "string_too_long": "text of at most {max_length} characters",
    "string_type": "text",
    "string_unicode": "text in UTF-8",
    "union_tag_invalid": "one of {expected_tags}",
    "time_delta_parsing": "a number of seconds",
    "url_parsing": "a URL",
    "url_scheme": "a URL that begins with {expected_schemes}",
    "url_too_long": "a URL of at most {max_length} characters",
    "url_type": "a URL",
    **dict.fromkeys(("ip_any_address", "ip_v4_address", "ip_v6_address"), "an IP address"),
    **dict.fromkeys(("ip_any_network", "ip_v4_network", "ip_v6_network"), "a prefix, as in 2001:db8::/32"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "an object, as in {{…}}"),
    "list_type": "a list",
}

_LONGEST_VALUE = 60


def mistakes(
    error: ValidationError, model: type[BaseModel], names: Mapping[str, str] | None = None, *, show_values: bool = True
) -> list[str]:
    """List every mistake in a line: `line.s_vlan: must be at most 4094, and is 5000`.

    `names` replaces field paths, for example by options. Without `show_values`, the lines contain no secret.
    """
    lines = []
    for found in error.errors(include_url=False):
        path = ".".join(
            str(part) for part in found["loc"] if "[" not in str(part)
        )  # without the names that pydantic adds
        words = _words(found, model, show_value=show_values)
        lines.append(f"{(names or {}).get(path, path)}: {words}" if path else words)
    # Each member of a union reports the mistake: keep it once.
    return list(dict.fromkeys(lines))


def setting_mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """List every mistake in the environment, with the variable and without its value: it can contain a password."""
    lines = []
    for found in error.errors(include_url=False):
        words = _words(found, model, show_value=False)
        name = str(found["loc"][0]) if found["loc"] else ""
        alias = model.model_fields[name].validation_alias if name in model.model_fields else name
        variable = alias or f"LASTMILE_{name.upper()}"
        lines.append(
            f"{variable}: {words}" if name else words
        )  # a mistake without a name is about several settings, which its words name
    return list(dict.fromkeys(lines))


def describe_mistake(found: Mapping[str, Any]) -> str:
    """Describe one mistake that pydantic has found, without the names of the valid fields.

    The value is not shown if it is a password, or an object or a list, which can contain one.
    """
    return _words(found, None, show_value="input" in found and not isinstance(found["input"], dict | list))


def suggest_name(name: str, valid: Iterable[str]) -> str:
    """Suggest the valid name that is most similar to the unknown name; empty if none is similar."""
    close = get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else ""


def _words(found: Any, model: type[BaseModel] | None, *, show_value: bool) -> str:
    kind, loc, limits = found["type"], found["loc"], found.get("ctx", {})
    if kind in ("missing", "union_tag_not_found"):
        return "is missing"
    if kind == "extra_forbidden":
        if model is None:
            return "Unknown field."
        valid = _fields(model, loc)
        return f"Unknown field. Valid fields: {', '.join(valid)}. {suggest_name(str(loc[-1]), valid)}".strip()
    if kind == "string_too_short" and limits["min_length"] == 1:
        return "must not be empty"
    if kind == "value_error":
        return str(limits["error"])
    if kind == "union_tag_invalid":  # the input is the whole object
        return f"{_rule(kind, loc, limits)}, and is {_shown(limits['tag'])}"
    show_value = show_value and "password" not in loc
    return _rule(kind, loc, limits) + (f", and is {_shown(found['input'])}" if show_value else "")


def _rule(kind: str, loc: tuple[int | str, ...], limits: Mapping[str, Any]) -> str:
    if kind == RULE:
        return str(limits["rule"])
    if kind == "string_pattern_mismatch":
        field = next((part for part in reversed(loc) if isinstance(part, str)), "")  # also of a value in a list
        return f"must be {PATTERN_WORDS[field]}" if field in PATTERN_WORDS else "is not valid"
    if kind == "literal_error" and limits["expected"] in ("True", "False"):  # JSON writes them in lower case
        return f"must be {limits['expected'].lower()}"
    return f"must be {_RULES[kind].format_map(_whole(limits))}" if kind in _RULES else "is not valid"


def _whole(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return whole limits as integers: 0, not 0.0. pydantic converts the limits of a float field to floats."""
    return {
        name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit for name, limit in limits.items()
    }


def _shown(value: Any) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}…"


def _fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the fields of the object that contains the last part of the path."""
    fields: Any = model.model_fields
    for part in loc[:-1]:
        fields = getattr(fields[part].annotation, "model_fields", {}) if part in fields else {}
    return list(fields)
