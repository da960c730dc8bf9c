"""A subscriber with its records, as a typed record that leaves personal data out on demand."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text

from lastmile.db import Database, TenantConnection
from lastmile.services.overview import Overview, read_overview
from lastmile.subscribers.errors import UnknownSubscriberError

__all__ = [
    "Address",
    "CustomerContact",
    "CustomerReference",
    "LineRecord",
    "Subscriber",
    "SubscriberStatus",
    "SubscriberSummary",
    "check_known",
    "describe_customer",
    "find_subscriber",
    "read_subscriber",
]


class SubscriberStatus(StrEnum):
    """The states of a subscriber."""

    IN_SERVICE = "in_service"
    SUSPENDED = "suspended"
    ARCHIVED = "archived"
    """A deprovision order has ended the service."""


class CustomerReference(BaseModel):
    """The customer who pays, without personal data."""

    ref: str


class CustomerContact(CustomerReference):
    """The customer who pays."""

    name: str
    email: str | None
    phone: str | None


class Address(BaseModel):
    """A prefix that the subscriber holds."""

    purpose: str
    prefix: str | None
    """None: the prefix is being allocated."""
    pool: str
    vrf: str
    state: str


class LineRecord(BaseModel):
    """The line, with the fields of `line` in an order."""

    connection_type: str
    onu_serial: str | None = None
    onu_type: str | None = None
    speed_profile: str | None = None
    olt: str | None = None
    pon_port: str | None = None
    cpe_mac: str | None = None
    cpe_oui: str | None = None
    cpe_product_class: str | None = None
    cpe_serial: str | None = None
    duid: str | None = None
    s_vlan: int | None = None
    c_vlan: int | None = None
    circuit_id: str | None = None
    remote_id: str | None = None
    option82_policy: str
    access: str
    identified_by: str | None = None
    username: str | None = None


class SubscriberSummary(BaseModel):
    """A subscriber in a list."""

    tenant: str
    subscriber_ref: str
    status: SubscriberStatus
    customer: CustomerContact | CustomerReference
    plan: str | None
    """None: the subscriber is archived."""
    line: LineRecord | None
    """None: the subscriber is archived."""
    addresses: list[Address]
    created_at: datetime
    archived_at: datetime | None


class Account(BaseModel):
    """The RADIUS account."""

    username: str
    group: str | None
    blocked: bool


class Device(BaseModel):
    """The ONU or the CPE, and the state that it should be in."""

    kind: str
    identity: str
    in_service: bool
    confirmed: bool
    updated_at: datetime


class Billing(BaseModel):
    """A service that the subscriber is, or was, billed for."""

    plan: str
    price_ref: str | None
    status: str
    started_at: datetime
    ended_at: datetime | None


class Suspension(BaseModel):
    """A suspension of the line."""

    mode: str
    reason: str
    since: datetime
    until: datetime | None
    """When the line resumes by itself."""
    order_id: str
    ended_at: datetime | None
    ended_by_order: str | None


class Quarantined(BaseModel):
    """A released prefix that only this subscriber can get again until then."""

    purpose: str
    prefix: str
    pool: str
    vrf: str
    until: datetime


class Subscriber(SubscriberSummary):
    """A subscriber with its records. Every list is oldest first."""

    created_by_order: str
    archived_by_order: str | None
    archive_reason: str | None
    radius: Account | None
    devices: list[Device]
    billing: list[Billing]
    suspensions: list[Suspension]
    quarantine: list[Quarantined]


_KNOWN = text(
    """
    SELECT EXISTS (SELECT FROM subscribers WHERE ref = :ref)
        OR EXISTS (SELECT FROM orders WHERE subscriber_ref = :ref)
        OR EXISTS (SELECT FROM delegation_events WHERE subscriber_ref = :ref)
    """
)


async def find_subscriber(database: Database, tenant: str, subscriber_ref: str, *, personal: bool) -> Subscriber:
    """Return the subscriber with its records, or the last one archived. Raises `UnknownSubscriberError`.

    Without `personal`, the subscriber has no name, e-mail address and phone number.
    """
    async with database.tenant(tenant) as connection:
        return await read_subscriber(connection, tenant, subscriber_ref, personal=personal)


async def read_subscriber(
    connection: TenantConnection, tenant: str, subscriber_ref: str, *, personal: bool
) -> Subscriber:
    """As `find_subscriber`, in the caller's transaction."""
    found = await read_overview(connection, tenant, subscriber_ref)
    if found.subscriber is None or found.customer is None:
        raise UnknownSubscriberError(_unknown(tenant, subscriber_ref))
    copied = ("addresses", "quarantine", "devices", "radius", "billing", "suspensions", "line")
    return Subscriber.model_validate(
        found.subscriber
        | {name: getattr(found, name) for name in copied}
        | {
            "tenant": tenant,
            "subscriber_ref": subscriber_ref,
            "status": _status(found),
            "plan": next((service["plan"] for service in found.billing if service["status"] != "ended"), None),
            "customer": describe_customer(found.customer, personal=personal),
        }
    )


def describe_customer(customer: dict[str, Any], *, personal: bool) -> CustomerReference:
    """Return the customer; without `personal`, only the reference."""
    return (CustomerContact if personal else CustomerReference).model_validate(customer)


async def check_known(database: Database, tenant: str, subscriber_ref: str) -> None:
    """Raise `UnknownSubscriberError` unless the tenant has, or had, the subscriber."""
    async with database.tenant(tenant) as connection:
        if not await connection.scalar(_KNOWN, {"ref": subscriber_ref}):
            raise UnknownSubscriberError(_unknown(tenant, subscriber_ref))


def _unknown(tenant: str, subscriber_ref: str) -> str:
    return f"Tenant {tenant} has no subscriber {subscriber_ref}, and never had: check the reference."


def _status(found: Overview) -> SubscriberStatus:
    if found.subscriber and found.subscriber["archived_at"]:
        return SubscriberStatus.ARCHIVED
    suspended = any(suspension["ended_at"] is None for suspension in found.suspensions)
    return SubscriberStatus.SUSPENDED if suspended else SubscriberStatus.IN_SERVICE
