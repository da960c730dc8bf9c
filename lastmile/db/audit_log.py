"""The table of the audit log. Triggers write it; Lastmile only reads it."""

from sqlalchemy import BigInteger, Column, DateTime, Identity, Table, Text, func
from sqlalchemy.dialects.postgresql import JSONB

from lastmile.db.metadata import metadata

__all__ = ["audit_log"]

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("tenant_id", Text),
    Column("actor", Text, nullable=False),
    Column("order_id", Text),
    Column("subscriber_ref", Text),
    Column("record", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB),
)
