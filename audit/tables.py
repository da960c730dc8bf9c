"""What the audit remembers: what broke each invariant when it was last checked."""

from sqlalchemy import BigInteger, Column, DateTime, Table, Text, func

from db import metadata

__all__ = ["audit_findings"]

# One row for each invariant. The oldest `checked_at` is how old the audit as a whole is.
audit_findings = Table(
    "audit_findings",
    metadata,
    Column("invariant", Text, primary_key=True),
    Column("violations", BigInteger, nullable=False),
    Column("mended", BigInteger, nullable=False),
    Column("checked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
