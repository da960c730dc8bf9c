"""How a validator refuses a value: with the rule that the value breaks, which reads on as "…, but is 5000"."""

from pydantic_core import PydanticCustomError

__all__ = ["RULE", "broken"]

RULE = "rule"
"""The type of the error, for whoever adds the field and the value."""


def broken(rule: str) -> PydanticCustomError:
    """Make the error for a value that breaks the rule, such as "must be a whole number"."""
    return PydanticCustomError(RULE, "{rule}", {"rule": rule})
