"""The orders that callers send. A workflow accepts every order that these models accept.

The models validate an order once and report every mistake in it, each with the path of its field.
"""

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from lastmile.contract.addressing import LABEL, Addressing, Purpose
from lastmile.contract.lines import (
    Access,
    AgentOption,
    Customer,
    Email,
    Line,
    Name,
    Phone,
    PonPort,
    Reference,
    ServicePlan,
    TenantId,
    Vlan,
    check_cpe_names,
)
from lastmile.contract.suspension import Refusal, SuspensionMode
from lastmile.fields.devices import DeviceText, Duid, MacAddress, OnuSerial, Oui
from lastmile.fields.passwords import Password
from lastmile.fields.scalars import Moment, TrueOrFalse, WholeNumber, any_case
from lastmile.fields.text import PRINTABLE

__all__ = [
    "AnyOrder",
    "ChangeAddressing",
    "ChangePlan",
    "DeprovisionSubscriber",
    "LineRequest",
    "Operation",
    "Order",
    "ProvisionSubscriber",
    "RelocateLine",
    "Renumber",
    "ReplaceDevice",
    "ResumeSubscriber",
    "RotateCredentials",
    "SuspendSubscriber",
    "TransferLine",
    "UpdateCustomer",
    "Urgency",
    "schedule_id",
    "workflow_id",
]


class Operation(StrEnum):
    """What an order does. `lastmile.contract.operations` holds the rest of each order type."""

    PROVISION = "provision"
    DEPROVISION = "deprovision"
    RENUMBER = "renumber"
    CHANGE_ADDRESSING = "change_addressing"
    UPDATE_CUSTOMER = "update_customer"
    ROTATE_CREDENTIALS = "rotate_credentials"
    REPLACE_DEVICE = "replace_device"
    RELOCATE = "relocate"
    CHANGE_PLAN = "change_plan"
    TRANSFER = "transfer"
    SUSPEND = "suspend"
    RESUME = "resume"


class Urgency(StrEnum):
    """Which of the waiting orders starts first. Within one level the tenants take turns."""

    URGENT = "urgent"
    """A technician is waiting at the door."""
    NORMAL = "normal"
    BULK = "bulk"
    """An import. Every other order may overtake it."""


def workflow_id(tenant: str, subscriber_ref: str) -> str:
    """Return the workflow id of every operation on a subscriber. Temporal runs only one of them at a time."""
    return f"subscriber/{tenant}/{subscriber_ref}"


def schedule_id(tenant: str, order_id: str) -> str:
    """Return the id of the Temporal Schedule that holds an order until its `not_before`."""
    return f"order/{tenant}/{order_id}"


class LineRequest(BaseModel):
    """The line that an order asks for."""

    model_config = ConfigDict(frozen=True)

    customer: Customer
    plan: ServicePlan
    line: Line
    addressing: Addressing


TRANSPORT_FIELDS = {"requested_by", "not_before", "urgency"}
"""The fields that say how and when an order travels. They are no part of its content."""


Reason = Annotated[str, Field(strict=True, min_length=1, max_length=500), PRINTABLE]


class Order(BaseModel):
    """The fields of every order."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    operation: ClassVar[Operation]

    tenant: TenantId
    order_id: Reference
    """The caller's idempotency key: the same order sent twice gives the same result."""
    subscriber_ref: Reference
    requested_by: Annotated[str, Field(strict=True, max_length=100), PRINTABLE] = ""
    """The system or the person that sends the order, for the audit log."""
    not_before: Moment | None = None
    """The time at which the order may start, with its time zone. None: now."""
    urgency: Annotated[Urgency, BeforeValidator(any_case)] = Urgency.NORMAL

    @property
    def workflow_id(self) -> str:
        """The workflow id of the subscriber."""
        return workflow_id(self.tenant, self.subscriber_ref)

    @property
    def customer_ref(self) -> str | None:
        """The customer that the order gives a line; None for an order that names no customer."""
        customer: Customer | None = getattr(self, "customer", None)
        return None if customer is None else customer.ref

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal. It does not depend on how the order was written."""
        # Without defaults: a field that a later version adds must not change the digest of older orders.
        # With the reference that the client sends in place of a password.
        sent = {"password_ref": self.order_id} if getattr(self, "password", None) is not None else {}
        content = self.model_copy(update=sent).model_dump_json(exclude_defaults=True, exclude=TRANSPORT_FIELDS)
        return hashlib.sha256(f"{self.operation}:{content}".encode()).hexdigest()

    @property
    def requested_line(self) -> LineRequest | None:
        """The line that the order asks for; None where it asks for none."""
        return None


class ProvisionSubscriber(Order):
    """Turn an order into a working line."""

    operation = Operation.PROVISION

    customer: Customer
    plan: ServicePlan
    line: Line
    addressing: Addressing = Addressing()
    adopt: TrueOrFalse = False
    """The line is in service elsewhere. Lastmile tells no session, NAS or controller. The order names what it has."""
    password: Annotated[Password | None, Field(exclude=True)] = None
    """The password of a `pppoe` line. None: Lastmile generates one. The client stores it, and sends `password_ref`."""
    password_ref: Reference | None = None
    """The order whose password the client has stored: this order's id."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.password is not None and self.line.access is Access.IPOE:
            raise ValueError("password needs line.access 'pppoe'")
        if self.adopt and (missing := list(self._not_named())):
            raise ValueError(f"adopt needs what the line has already: {', '.join(missing)}")
        if any(map(self.addressing.keeps, Purpose)):
            raise ValueError("addressing: 'unchanged' is only for change_addressing")
        return self

    def _not_named(self) -> Iterator[str]:
        """Yield each field that an adopted line lacks: Lastmile must choose nothing for it."""
        for need in self.addressing.needs():
            if need.address is None:
                yield f"addressing.ipv{need.purpose.family}_{'address' if need.purpose.family == 4 else 'prefix'}"
        if self.line.access is Access.PPPOE and self.password is None and self.password_ref is None:
            yield "password"

    @property
    def requested_line(self) -> LineRequest:
        return LineRequest(customer=self.customer, plan=self.plan, line=self.line, addressing=self.addressing)


class DeprovisionSubscriber(Order):
    """Terminate a subscriber's service and release everything that the line held."""

    operation = Operation.DEPROVISION

    reason: Reason
    """Why the service ends, for the history. No personal data."""


class Renumber(Order):
    """Give the line another prefix of one purpose. The line keeps the old prefix beside the new one for the overlap."""

    operation = Operation.RENUMBER

    purpose: Annotated[Purpose, BeforeValidator(any_case)] = Purpose.IPV6_PD
    pool: str | None = Field(default=None, pattern=LABEL)
    """The pool of the new prefix. None: any pool of the same length, VRF and region."""
    overlap_hours: WholeNumber = Field(default=2, ge=0, le=720)
    """The hours for which the line keeps the old prefix after the switch. The lifetimes that a CPE announces in the LAN
    last for up to 90 minutes (RFC 9096). 0: no overlap."""


class ChangeAddressing(Order):
    """Change the addresses of a line to those of the addressing. Addresses that fit stay."""

    operation = Operation.CHANGE_ADDRESSING

    addressing: Addressing
    """All addresses that the line has afterwards. With the mode `unchanged`, the line keeps what it has, and gets into
    service what an earlier order has only allocated."""


class UpdateCustomer(Order):
    """Correct the data of the subscriber's customer. The correction holds for all lines of the customer."""

    operation = Operation.UPDATE_CUSTOMER

    name: Name | None = None
    email: Email | None = None
    phone: Phone | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.corrections:
            raise ValueError("needs a name, an email or a phone")
        return self

    @property
    def corrections(self) -> dict[str, str]:
        """The fields to correct, with their new values."""
        return self.model_dump(include={"name", "email", "phone"}, exclude_none=True)


class RotateCredentials(Order):
    """Give the line of a subscriber another password. The user name stays, and no session ends."""

    operation = Operation.ROTATE_CREDENTIALS

    password: Annotated[Password | None, Field(exclude=True)] = None
    """The new password. None: Lastmile generates one. The client stores it, and sends `password_ref`."""
    password_ref: Reference | None = None
    """The order whose password the client has stored: this order's id."""


class ReplaceDevice(Order):
    """Put another ONU or CPE into service on the subscriber's line, in place of the one that the line has.

    An order that names another ONU or CPE describes the whole device: the line keeps no field of the former one. Any
    other order corrects fields of the devices that the line has.
    """

    operation = Operation.REPLACE_DEVICE

    onu_serial: OnuSerial | None = None
    onu_type: DeviceText | None = None
    speed_profile: DeviceText | None = None
    cpe_mac: MacAddress | None = None
    cpe_oui: Oui | None = None
    cpe_product_class: DeviceText | None = None
    cpe_serial: DeviceText | None = None
    duid: Duid | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.changes:
            raise ValueError(f"needs one of {', '.join(_DEVICE)}")
        check_cpe_names(self.cpe_oui, self.cpe_product_class, self.cpe_serial)
        return self

    @property
    def changes(self) -> dict[str, str]:
        """The fields of the line that change, with their new values."""
        return self.model_dump(include={*_DEVICE}, exclude_none=True)


_DEVICE = tuple(name for name in ReplaceDevice.model_fields if name not in Order.model_fields)


class RelocateLine(Order):
    """Move the subscriber's line to another place in the access network. A field that is not given stays as it is."""

    operation = Operation.RELOCATE

    olt: Reference | None = None
    pon_port: PonPort | None = None
    s_vlan: Vlan | None = None
    c_vlan: Vlan | None = None
    circuit_id: AgentOption | None = None
    remote_id: AgentOption | None = None
    speed_profile: DeviceText | None = None
    """The profile of the new OLT that has the rates of the plan."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.changes:
            raise ValueError(
                "needs an olt, a pon_port, an s_vlan, a c_vlan, a circuit_id, a remote_id or a speed_profile"
            )
        return self

    @property
    def changes(self) -> dict[str, str | int]:
        """The fields of the line that change, with their new values."""
        place = {"olt", "pon_port", "s_vlan", "c_vlan", "circuit_id", "remote_id", "speed_profile"}
        return self.model_dump(include=place, exclude_none=True)


class ChangePlan(Order):
    """Give the line another plan, with its rates. `not_before` is the time of the change."""

    operation = Operation.CHANGE_PLAN

    plan: ServicePlan
    on_refusal: Annotated[Refusal, BeforeValidator(any_case)] = Refusal.NEXT_LOGIN
    """What happens to a live session whose NAS does not take the new rates."""
    speed_profile: DeviceText | None = None
    """The profile of the OLT that has the rates of the new plan. None: the line loses that of the former plan."""


class TransferLine(Order):
    """Give the subscriber's line to another customer. The line itself does not change."""

    operation = Operation.TRANSFER

    customer: Customer


class SuspendSubscriber(Order):
    """Suspend a subscriber's line: no charges, blocked or limited internet access. The line keeps its addresses."""

    operation = Operation.SUSPEND

    reason: Reason
    """Why the line is suspended, for the history. No personal data."""
    mode: Annotated[SuspensionMode, BeforeValidator(any_case)]
    until: Moment | None = None
    """The time at which the line resumes by itself. None: an order resumes it."""

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.until is not None and self.not_before is not None and self.until <= self.not_before:
            raise ValueError("until must be later than not_before")
        return self


class ResumeSubscriber(Order):
    """Put a suspended line into service again."""

    operation = Operation.RESUME

    suspended_by: Reference | None = None
    """The suspend order to end. Where another order has suspended the line since, the line stays suspended. None: end
    the present suspension."""


AnyOrder = (
    ProvisionSubscriber
    | DeprovisionSubscriber
    | UpdateCustomer
    | RotateCredentials
    | ReplaceDevice
    | RelocateLine
    | ChangePlan
    | Renumber
    | ChangeAddressing
    | TransferLine
    | SuspendSubscriber
    | ResumeSubscriber
)
