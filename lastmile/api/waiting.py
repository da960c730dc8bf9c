"""`Prefer: wait=N` (RFC 7240): run an order, and wait for its end for at most N seconds."""

import asyncio
import re
from typing import Annotated

from fastapi import Depends, Header

from lastmile.api.context import ApiContext
from lastmile.contract import AnyOrder, OrderResult
from lastmile.errors import UnavailableError

__all__ = ["Patience", "run_order"]

DEFAULT_SECONDS = 10
LONGEST_SECONDS = 30
START_SECONDS = 10
"""How long a request waits for Temporal, which answers within milliseconds."""

_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)


def _patience(
    prefer: Annotated[
        str | None,
        Header(max_length=200, description=f"`wait=N`: seconds to wait for the end, at most {LONGEST_SECONDS}."),
    ] = None,
) -> int:
    found = _WAIT.search(prefer or "")
    return DEFAULT_SECONDS if found is None else min(int(found[1]), LONGEST_SECONDS)


Patience = Annotated[int, Depends(_patience)]
"""The parameter of a route that waits for an order: seconds."""


async def run_order(context: ApiContext, order: AnyOrder, seconds: int) -> OrderResult | None:
    """Start the order, or find its run; return its result, or None if it has not ended after these seconds.

    Raises:
        AlreadyRunningError: another order of the subscriber is running.
        OrderRefusedError: the order was refused before its first step.
        UnavailableError: Temporal does not answer.
    """
    try:
        run = await asyncio.wait_for(context.temporal.orders.start(order), START_SECONDS)
    except TimeoutError:
        raise UnavailableError(
            f"Temporal does not answer within {START_SECONDS} s, and order {order.order_id} may have started. Send the "
            f"request again with the Idempotency-Key {order.order_id}."
        ) from None
    try:
        return await asyncio.wait_for(run.result(), seconds)
    except TimeoutError:
        return None
