"""The tables of the audit: the number of findings of each invariant, and the acknowledgements."""

from sqlalchemy import BigInteger, Column, DateTime, Table, Text, func

from lastmile.db import metadata

__all__ = ["acknowledgements", "audit_findings"]

# One row for each invariant. The oldest `checked_at` is the age of the whole audit.
audit_findings = Table(
    "audit_findings",
    metadata,
    Column("invariant", Text, primary_key=True),
    Column("violations", BigInteger, nullable=False),
    Column("repaired", BigInteger, nullable=False),
    Column("acknowledged", BigInteger, nullable=False, server_default="0"),
    Column("checked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("finding", Text, primary_key=True),
    Column("invariant", Text, nullable=False),
    Column("tenant_id", Text),
    Column("subject", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("subscriber_ref", Text),
    Column("acknowledged_by", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
