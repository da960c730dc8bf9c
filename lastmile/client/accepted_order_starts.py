"""Start an accepted order, and record what came of it."""

import asyncio
from datetime import timedelta
from enum import Enum, auto

from lastmile.client.errors import AlreadyRunningError, OrderIdReusedError
from lastmile.client.orders import Lastmile
from lastmile.client.temporal.connection import TemporalUnreachableError
from lastmile.contract import AnyOrder
from lastmile.contract.operations import OPERATIONS
from lastmile.contract.orders import Operation
from lastmile.db import Database
from lastmile.encryption.keys import KeyRing
from lastmile.fields.stored import STORED
from lastmile.services.sealed_bodies import seal, unseal
from lastmile.subscribers.accepted_orders import AcceptedOrder, SealedBody, mark_scheduled, refuse_accepted_order

__all__ = ["SCHEDULE_LOOK", "START_TIME", "StartOutcome", "open_body", "seal_body", "start_accepted_order"]

START_TIME = timedelta(seconds=5)
"""How long one attempt to start an order may take."""
SCHEDULE_LOOK = timedelta(minutes=5)
"""How often a sweeper looks whether the Schedule of an order still holds it."""


class StartOutcome(Enum):
    """What came of the start of an accepted order."""

    STARTED = auto()
    """The order has a run, which opens it; or its run was there already."""
    SCHEDULED = auto()
    BUSY = auto()
    """Another operation on the subscriber runs: the order waits."""
    REFUSED = auto()


def seal_body(order: AnyOrder, keys: KeyRing | None) -> SealedBody:
    """Return the order as JSON, encrypted where there are keys. A password is not part of it."""
    return seal(order.model_dump_json(exclude_defaults=True).encode(), keys)


def open_body(accepted: AcceptedOrder, keys: KeyRing | None) -> AnyOrder:
    """Return the order.

    Raises:
        DecryptionError: this process lacks the key, or the body was changed.
    """
    assert accepted.body is not None
    content = unseal(accepted.body, keys, f"Order {accepted.order_id} of tenant {accepted.tenant}")
    order: AnyOrder = OPERATIONS[Operation(accepted.operation)].model.model_validate_json(content, context=STORED)
    return order


async def start_accepted_order(database: Database, lastmile: Lastmile, order: AnyOrder) -> StartOutcome:
    """Start the order. The same order again finds its run.

    Raises:
        TimeoutError, TemporalUnreachableError: Temporal does not answer.
        RPCError: Temporal does not accept the order.
    """
    try:
        async with asyncio.timeout(START_TIME.total_seconds()):
            run = await lastmile.start_kept(order)
    except RuntimeError as failure:  # the SDK's error where a client has never reached Temporal
        raise TemporalUnreachableError("No Temporal server answers.") from failure
    except AlreadyRunningError:
        return StartOutcome.BUSY
    except OrderIdReusedError as refusal:
        async with database.tenant(order.tenant, subscriber_ref=order.subscriber_ref) as connection:
            await refuse_accepted_order(connection, order.order_id, order.digest, str(refusal))
        return StartOutcome.REFUSED
    if run.scheduled is None:
        return StartOutcome.STARTED
    async with database.tenant(order.tenant) as connection:
        await mark_scheduled(connection, order.order_id, order.digest, run.scheduled.at, look_after=SCHEDULE_LOOK)
    return StartOutcome.SCHEDULED
