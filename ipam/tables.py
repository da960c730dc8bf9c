"""The tables of this domain. The migrations create them; a test compares the two."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Identity, Integer, Table, Text, func, text
from sqlalchemy.dialects.postgresql import CIDR, INT8MULTIRANGE

from lastmile.db import metadata

__all__ = [
    "delegation_counts",
    "delegation_events",
    "delegations",
    "netbox_blocks",
    "netbox_comparisons",
    "netbox_records",
    "netbox_removals",
    "pools",
]
__all__ += ["netbox_failed_repairs", "netbox_foreign_prefixes", "netbox_pending_inspections", "slots"]


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _tenant(*, nullable: bool = False) -> Column[str]:
    return Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=nullable)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


pools = Table(
    "pools",
    metadata,
    _id(),
    _tenant(nullable=True),
    Column("name", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("prefix", CIDR, nullable=False),
    Column("delegated_length", Integer, nullable=False),
    Column("vrf", Text, nullable=False, server_default=""),
    Column("region", Text),
    Column("country", Text),
    Column("first_slot", BigInteger, nullable=False),
    Column("end_slot", BigInteger, nullable=False),
    Column("frontier", BigInteger, nullable=False),
    _now("created_at"),
    Column("mode", Text, nullable=False),
    Column("netbox_prefix_id", BigInteger),
    Column("netbox_vrf_id", BigInteger),
    Column("netbox_release", Text),
    Column("netbox_record", Text),
    Column("netbox_block_length", Integer),
    Column("netbox_closed_until", DateTime(timezone=True)),
    Column("netbox_full_since", DateTime(timezone=True)),
    Column("excluded", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    Column("closed_at", DateTime(timezone=True)),
)

# The tenant is the pool's, copied for row-level security. A slot has a delegation while it is held, and a last holder
# (`ipam.allocation_key.AllocationKey.holder`) while it is not.
slots = Table(
    "slots",
    metadata,
    Column("pool_id", BigInteger, ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant_id", Text),
    Column("delegation_id", BigInteger),
    Column("free_at", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    Column("last_holder", Text),
)

delegations = Table(
    "delegations",
    metadata,
    _id(),
    _tenant(),
    Column("pool_id", BigInteger, ForeignKey("pools.id"), nullable=False),
    Column("slot", BigInteger),
    Column("prefix", CIDR),
    Column("subscriber_ref", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("allocation_key", Text, nullable=False),
    Column("created_by_order", Text, nullable=False),
    Column("state", Text, nullable=False),
    _now("state_since"),
    Column("disconnect_confirmed", Boolean),
    _now("created_at"),
    Column("released_at", DateTime(timezone=True)),
    Column("login_name", Text),
    Column("netbox_id", BigInteger),
    Column("replaced_by_order", Text),
    Column("replaced_at", DateTime(timezone=True)),
    Column("replaced_until", DateTime(timezone=True)),
)

delegation_events = Table(
    "delegation_events",
    metadata,
    _id(),
    _tenant(),
    Column("delegation_id", BigInteger, nullable=False),
    Column("prefix", CIDR),
    Column("subscriber_ref", Text, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("order_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("vrf", Text),
)

# Records that must be deleted from NetBox once they are due; with the prefix while that is in quarantine there.
netbox_removals = Table(
    "netbox_removals",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("allocation_key", Text, primary_key=True),
    Column("pool_id", BigInteger, ForeignKey("pools.id"), primary_key=True),
    Column("prefix", CIDR),
    Column("netbox_id", BigInteger),
    Column("due_at", DateTime(timezone=True), nullable=False),
)

# The tenant is the pool's, as in slots. Prefix and slots are unknown while the block is being acquired.
netbox_blocks = Table(
    "netbox_blocks",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("pool_id", BigInteger, ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
    Column("tenant_id", Text),
    Column("key", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="acquiring"),
    Column("prefix", CIDR),
    Column("netbox_id", BigInteger),
    Column("first_slot", BigInteger),
    Column("end_slot", BigInteger),
    Column("used", BigInteger),
    _now("since"),
    Column("looked_at", DateTime(timezone=True)),
)

# The record that NetBox has of a slot's prefix, as far as is known; due_at is when the next report is due.
netbox_records = Table(
    "netbox_records",
    metadata,
    Column("pool_id", BigInteger, ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True),
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant_id", Text),
    Column("netbox_id", BigInteger),
    Column("key", Text),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("since", DateTime(timezone=True), server_default=func.now()),
    Column("due_at", DateTime(timezone=True), server_default=func.now()),
    Column("claimed_until", DateTime(timezone=True)),
    Column("unsure", Boolean, nullable=False, server_default=text("false")),
    Column("problem", Text),
)

# Foreign prefixes in our blocks in NetBox, with the slots that they touch.
netbox_foreign_prefixes = Table(
    "netbox_foreign_prefixes",
    metadata,
    Column("pool_id", BigInteger, ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True),
    Column("netbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant_id", Text),
    Column("prefix", CIDR, nullable=False),
    Column("description", Text, nullable=False),
    Column("first_slot", BigInteger, nullable=False),
    Column("end_slot", BigInteger, nullable=False),
    _now("since"),
)

# Changes of the number of delegations of each kind, written by a trigger. Their sum is the number.
delegation_counts = Table(
    "delegation_counts",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("pool_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("in_netbox", Boolean, nullable=False),
    Column("number", BigInteger, nullable=False),
)

# When each pool in NetBox was last compared with the database.
netbox_comparisons = Table(
    "netbox_comparisons",
    metadata,
    Column("pool_id", BigInteger, ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("since", DateTime(timezone=True), nullable=False),
)

# NetBox ids that the last comparison left open: the next one inspects them again.
netbox_pending_inspections = Table(
    "netbox_pending_inspections",
    metadata,
    Column("pool_id", BigInteger, ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True),
    Column("netbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("seen_at", DateTime(timezone=True), nullable=False),
)

# Failed repairs, by what they are about (`ipam.netbox.reconcile.differences`).
netbox_failed_repairs = Table(
    "netbox_failed_repairs",
    metadata,
    Column("pool_id", BigInteger, ForeignKey("pools.id", ondelete="CASCADE"), primary_key=True),
    Column("about", Text, primary_key=True),
    Column("problem", Text, nullable=False),
    Column("tried_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
