"""Events that CRMs send by webhook."""

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from lastmile.api.auth.hook_senders import VerifiedSource
from lastmile.api.auth.requirements import GuardedRoute
from lastmile.api.bodies import read_json
from lastmile.api.context import Context
from lastmile.api.problems import ProblemError
from lastmile.client.hook_intake import HookIntake
from lastmile.services.hooks.events import HookEventState

__all__ = ["router"]

router = APIRouter(prefix="/hooks", tags=["hooks"], route_class=GuardedRoute)

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The event, as the CRM sends it.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class HookReceipt(BaseModel):
    """What came of an event."""

    event_id: str
    event: str = Field(description="The kind of event, as the CRM names it.")
    state: HookEventState = Field(
        description="`ordered`: its orders are accepted. `ignored`: it needs no order. `failed`: it is kept, and an "
        "operator sees it in `lastmile hooks list`. In each of these cases the event is not lost."
    )
    reason: str | None = Field(default=None, description="Why the event is ignored or kept.")
    orders: list[str] = Field(description="The paths of the orders.")
    received_at: datetime


@router.post(
    "/{source}",
    status_code=202,
    openapi_extra=_BODY,
    responses={
        200: {"description": "The event was received before."},
        202: {"description": "The event is received, and is not lost."},
    },
)
async def receive_event(context: Context, source: VerifiedSource, request: Request, response: Response) -> HookReceipt:
    """Receive an event of a CRM, and accept its orders. The same event again makes no second order."""
    content = await request.body()
    body = read_json(content)
    if not isinstance(body, dict):
        raise ProblemError("invalid", "The body must be a JSON object, as in {…}.")
    intake = HookIntake(context.database, context.acceptance, context.settings.key_ring)
    receipt = await intake.receive(source, body, content)
    event = receipt.event
    response.status_code = 202 if receipt.new else 200
    return HookReceipt(
        event_id=event.event_id,
        event=event.event,
        state=event.state,
        reason=event.reason,
        orders=[f"/v1/orders/{order_id}" for order_id in event.order_ids],
        received_at=event.received_at,
    )
