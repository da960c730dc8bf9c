"""The tables of subscribers and orders. Migrations create them, and a test compares both definitions."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB, MACADDR, UUID

from lastmile.db import metadata

__all__ = [
    "accepted_orders",
    "billing_events",
    "billing_services",
    "customers",
    "network_profiles",
    "orders",
    "previous_values",
    "subscribers",
    "suspensions",
    "tenants",
]


def _id() -> Column[object]:
    return Column("id", UUID(as_uuid=False), primary_key=True, server_default=func.gen_random_uuid())


def _tenant() -> Column[str]:
    return Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    _now("created_at"),
)

orders = Table(
    "orders",
    metadata,
    _tenant(),
    Column("order_id", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("subscriber_ref", Text, nullable=False),
    Column("customer_ref", Text),
    Column("digest", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    _now("run_started_at"),
    Column("status", Text, nullable=False),
    Column("result", JSONB),
    Column("requested_by", Text),
    _now("created_at"),
    Column("finished_at", DateTime(timezone=True)),
    Column("taken_over", Boolean, nullable=False, server_default="false"),
    Column("adopts", Boolean, nullable=False, server_default="false"),
    Column("urgency", Text, nullable=False, server_default="normal"),
    PrimaryKeyConstraint("tenant_id", "order_id"),
)

accepted_orders = Table(
    "accepted_orders",
    metadata,
    _tenant(),
    Column("order_id", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("subscriber_ref", Text, nullable=False),
    Column("customer_ref", Text),
    Column("digest", Text, nullable=False),
    Column("requested_by", Text),
    Column("urgency", Text, nullable=False),
    Column("not_before", DateTime(timezone=True)),
    Column("when_busy", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("key_name", Text),
    Column("body", LargeBinary),
    Column("accepted_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("claimed_until", DateTime(timezone=True)),
    PrimaryKeyConstraint("tenant_id", "order_id"),
)

customers = Table(
    "customers",
    metadata,
    _id(),
    _tenant(),
    Column("ref", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("phone", Text),
    Column("created_by_order", Text, nullable=False),
    _now("created_at"),
    Column("forgotten_at", DateTime(timezone=True)),
)

subscribers = Table(
    "subscribers",
    metadata,
    _id(),
    _tenant(),
    Column("ref", Text, nullable=False),
    Column("customer_id", UUID(as_uuid=False), ForeignKey("customers.id"), nullable=False),
    Column("created_by_order", Text, nullable=False),
    _now("created_at"),
    Column("archived_at", DateTime(timezone=True)),
    Column("archived_by_order", Text),
    Column("archive_reason", Text),
)

network_profiles = Table(
    "network_profiles",
    metadata,
    _id(),
    _tenant(),
    Column("subscriber_id", UUID(as_uuid=False), ForeignKey("subscribers.id"), nullable=False),
    Column("connection_type", Text, nullable=False),
    Column("onu_serial", Text),
    Column("onu_type", Text),
    Column("speed_profile", Text),
    Column("olt", Text),
    Column("pon_port", Text),
    Column("cpe_mac", MACADDR),
    Column("cpe_oui", Text),
    Column("cpe_product_class", Text),
    Column("cpe_serial", Text),
    Column("duid", Text),
    Column("s_vlan", Integer),
    Column("c_vlan", Integer),
    Column("circuit_id", Text),
    Column("remote_id", Text),
    Column("option82_policy", Text, nullable=False),
    Column("access", Text, nullable=False, server_default="pppoe"),
    Column("identified_by", Text),
    Column("username", Text),
    Column("created_by_order", Text, nullable=False),
    _now("created_at"),
)

billing_services = Table(
    "billing_services",
    metadata,
    _id(),
    _tenant(),
    Column("subscriber_id", UUID(as_uuid=False), ForeignKey("subscribers.id"), nullable=False),
    Column("plan", Text, nullable=False),
    Column("price_ref", Text),
    Column("status", Text, nullable=False),
    _now("started_at"),
    Column("ended_at", DateTime(timezone=True)),
    Column("suspended_by_order", Text),
    Column("created_by_order", Text, nullable=False),
)

billing_events = Table(
    "billing_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    Column("service_id", UUID(as_uuid=False), nullable=False),
    Column("subscriber_ref", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("previous_plan", Text),
    Column("price_ref", Text),
    Column("previous_customer", Text),
    Column("customer", Text),
    Column("mode", Text),
    Column("order_id", Text, nullable=False),
    _now("at"),
)

suspensions = Table(
    "suspensions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _tenant(),
    Column("subscriber_ref", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("resume_at", DateTime(timezone=True)),
    Column("created_by_order", Text, nullable=False),
    _now("created_at"),
    Column("ended_by_order", Text),
    Column("ended_at", DateTime(timezone=True)),
)

previous_values = Table(
    "previous_values",
    metadata,
    _tenant(),
    Column("created_by_order", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("subscriber_ref", Text, nullable=False),
    Column("value", JSONB, nullable=False),
    _now("recorded_at"),
    PrimaryKeyConstraint("tenant_id", "created_by_order", "step"),
)
