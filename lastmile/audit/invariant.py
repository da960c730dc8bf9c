"""The type of an invariant: a query that returns every violation, and its remedy.

A query reads all tenants, or the tenant of its parameter `:tenant`. Each row has these columns:

- `tenant` and `subject`, by which an operator finds the record;
- `words`, the text of the finding;
- `key`, the parameter of the repair.

Each query is a join or an anti-join over whole tables: row-by-row look-ups would take hours for millions of lines.
"""

from dataclasses import dataclass

__all__ = ["Invariant", "tenant_condition"]


@dataclass(frozen=True, slots=True)
class Invariant:
    """One rule that the data must satisfy at all times."""

    name: str
    number: int
    """The rule that the invariant belongs to:

    1. No two live delegations overlap, and no session uses a released prefix.
    2. A subscriber has at most one live delegation per purpose.
    3. Every occupied slot has its delegation, and every delegation its slot.
    4. NetBox agrees with the database.
    5. RADIUS agrees with the database.
    6. A rolled-back order left nothing, and a completed order left everything that it promised.
    """
    meaning: str
    query: str
    remedy: str
    """How an operator removes a violation."""
    repair: str | None = None
    """One statement with the parameter `:key` that repairs a violation; None: only an operator can decide."""


def tenant_condition(column: str) -> str:
    """Return the SQL condition that `column` is the tenant `:tenant`; always true if `:tenant` is NULL."""
    return f"(CAST(:tenant AS text) IS NULL OR {column} = :tenant)"
