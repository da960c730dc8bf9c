"""What an invariant is: one query over everything that returns what breaks it, and what to do about that.

A query sees all tenants or, where its parameter `:tenant` names one, that one's. Its rows have `tenant` and `subject`
(what a person looks for) and `words`; `key` is what a repair needs. Nothing here reads row by row: each is a join or
an anti-join.
"""

from dataclasses import dataclass

from lastmile.radius.reply_attributes import ATTRIBUTE_OF_PURPOSE

__all__ = ["ATTRIBUTE", "USER", "VALUE", "Invariant", "of_tenant"]


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing that must hold."""

    name: str
    number: int
    """In DESIGN section 4."""
    meaning: str
    query: str
    remedy: str
    """What a person does about a violation."""
    repair: str | None = None
    """One statement, for `:key`, that repairs a violation; None where only a person can decide."""


def of_tenant(column: str) -> str:
    """The condition that `column` is the tenant that was asked for, if one was."""
    return f"(CAST(:tenant AS text) IS NULL OR {column} = :tenant)"


# A delegation `d` as RADIUS has it: user name, attribute and value.
USER = "lastmile_radius_username(d.subscriber_ref, d.tenant_id)"
ATTRIBUTE = ATTRIBUTE_OF_PURPOSE
VALUE = "CASE WHEN d.purpose IN ('ipv4', 'ipv6_address') THEN host(d.prefix) ELSE d.prefix::text END"
