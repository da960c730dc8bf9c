"""The bodies and answers of `/v1/orders`. A body has the fields of its order type, and says how to accept the order."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator
from pydantic.json_schema import SkipJsonSchema

from lastmile.client.order_acceptance import Acceptance
from lastmile.contract import AnyOrder, OrderResult, Parked, Progress, StepResult
from lastmile.contract.lines import Reference, TenantId
from lastmile.contract.operations import OPERATIONS, OrderType
from lastmile.contract.orders import Operation, Urgency
from lastmile.contract.progress import RunStatus
from lastmile.fields.scalars import Moment, any_case
from lastmile.services.records.orders import OrderRecord
from lastmile.subscribers.accepted_orders import WhenBusy

__all__ = ["DryRun", "Order", "OrderChange", "OrderReason", "OrderRequest", "PlannedStep", "to_order"]

_NOT_SENT = {"tenant", "order_id", "requested_by", "password_ref"}
"""The fields of an order that its caller and the client fill in."""


def _request(entry: OrderType[Any]) -> type[BaseModel]:
    """Return the model of the body for an order type, made of the fields of its order."""
    fields: dict[str, Any] = {
        name: (Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation, field)
        for name, field in entry.model.model_fields.items()
        if name not in _NOT_SENT
    }
    fields["operation"] = (Literal[entry.operation.value], ...)
    model: type[BaseModel] = create_model(
        f"{entry.model.__name__}Request",
        __config__=ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True),
        __doc__=entry.summary,
        order_id=(
            Reference | None,
            Field(None, description="Your idempotency key, for ever. Without it: the header `Idempotency-Key`."),
        ),
        tenant=(TenantId | None, Field(None, description="Without it: the tenant of your key or token.")),
        when_busy=(
            WhenBusy,
            Field(WhenBusy.REFUSE, description="`wait`: start when the subscriber's earlier orders have ended."),
        ),
        **fields,
    )
    return model


if TYPE_CHECKING:

    class OrderRequest(BaseModel):
        """The fields that every body has."""

        operation: str
        order_id: str | None
        tenant: str | None
        when_busy: WhenBusy

else:
    OrderRequest = Annotated[
        Union[tuple(_request(entry) for entry in OPERATIONS.values())],  # noqa: UP007 -- a union of a computed tuple
        Field(discriminator="operation"),
    ]
    """The body of `POST /v1/orders`: one model for each order type."""


def to_order(request: OrderRequest, *, tenant: str, order_id: str, requested_by: str) -> AnyOrder:
    """Return the order of the body. Raises `ValidationError` for what only the whole order shows."""
    model = OPERATIONS[Operation(request.operation)].model
    given = {name: getattr(request, name) for name in request.model_fields_set if name in model.model_fields}
    order: AnyOrder = model.model_validate(
        given | {"tenant": tenant, "order_id": order_id, "requested_by": requested_by}
    )
    return order


class Order(BaseModel):
    """An order, with its live steps or its result."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tenant: str
    order_id: str
    operation: Operation
    subscriber_ref: str
    status: str
    """`waiting`, `scheduled`, `refused` or `cancelled` before a run opens the order. Then `running`, `rolling_back`,
    `parked` (it waits for an operator), or how the order ended."""
    reason: str = ""
    """Why the order was refused, cancelled, rolled back or abandoned."""
    urgency: Urgency
    requested_by: str | None = None
    created_at: datetime
    not_before: datetime | None = None
    finished_at: datetime | None = None
    behind: str | None = None
    """The order of the subscriber that must end first."""
    steps: list[StepResult] | None = None
    """Each step and how it ended. null: the order has not begun, or no worker answers."""
    step: str | None = None
    """The step that runs or is parked."""
    parked: Parked | None = None
    """The failure that an operator must decide about."""
    live: Literal["progress", "no worker"] | None = None
    """Whether `steps` are the progress of the run now. null: the order does not run."""
    result: OrderResult | None = None
    """What the order did; null while it has not ended."""
    href: str
    """The path of this order."""

    @classmethod
    def accepted(cls, acceptance: Acceptance) -> "Order":
        """Return the answer to an order that was sent."""
        order = acceptance.order
        return cls(
            tenant=order.tenant,
            order_id=order.order_id,
            operation=order.operation,
            subscriber_ref=order.subscriber_ref,
            status=acceptance.status,
            reason=acceptance.reason or (acceptance.result.reason if acceptance.result else ""),
            urgency=order.urgency,
            requested_by=order.requested_by or None,
            created_at=acceptance.at,
            not_before=order.not_before,
            behind=acceptance.behind.order_id if acceptance.behind else None,
            steps=acceptance.result.steps if acceptance.result else None,
            result=acceptance.result,
            href=f"/v1/orders/{order.order_id}",
        )

    @classmethod
    def recorded(cls, record: OrderRecord) -> "Order":
        """Return an order as the database knows it."""
        return cls(
            **record.model_dump(exclude={"result"}),
            result=record.result,
            steps=record.result.steps if record.result else None,
            href=f"/v1/orders/{record.order_id}",
        )

    def with_progress(self, progress: Progress | None) -> "Order":
        """Return the order with the progress of its run; None: no worker answers."""
        if progress is None:
            return self.model_copy(update={"live": "no worker"})
        if progress.result is not None:  # the run has ended since the row was read
            return self
        status = "parked" if progress.status is RunStatus.PARKED else self.status
        live = {"steps": progress.steps, "step": progress.step, "parked": progress.parked, "live": "progress"}
        return self.model_copy(update={"status": status} | live)


class PlannedStep(BaseModel):
    """What a step would do."""

    step: str
    action: str
    detail: str


class DryRun(BaseModel):
    """What an order would do. Nothing was done."""

    would: Literal["be_carried_out", "be_refused"]
    steps: list[PlannedStep]


class OrderReason(BaseModel):
    """Why an order is cancelled."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(strict=True, min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]


class OrderChange(BaseModel):
    """The change of a scheduled order. What the body leaves out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    not_before: Moment | SkipJsonSchema[None] = None
    urgency: Annotated[Urgency, BeforeValidator(any_case)] | SkipJsonSchema[None] = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.not_before is None and self.urgency is None:
            raise ValueError("needs a not_before or an urgency")
        return self
