"""The error of a validator. Its message states the rule, and the caller appends the value: "…, but is 5000"."""

from pydantic_core import PydanticCustomError

__all__ = ["RULE", "rule_error"]

RULE = "rule"
"""The type of the error, by which the caller recognises a message that needs the field and the value."""


def rule_error(rule: str) -> PydanticCustomError:
    """Return the error for a value that breaks the rule, such as "must be a whole number"."""
    return PydanticCustomError(RULE, "{rule}", {"rule": rule})
