"""`Prefer: wait=N` and `Prefer: dry-run` (RFC 7240): how a request wants its order to be answered."""

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from lastmile.api.context import ApiContext
from lastmile.api.order_models import DryRun
from lastmile.contract import AnyOrder
from lastmile.services.dry_run import dry_run
from lastmile.services.order_files.reader import NumberedOrder
from lastmile.services.records.orders import OrderRecord, find_order_record
from lastmile.subscribers.accepted_orders import ENDED_WITHOUT_RESULT

__all__ = ["LONGEST_SECONDS", "Preferences", "Preferred", "plan", "wait_for_end"]

LONGEST_SECONDS = 30
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5
PAUSE_FACTOR = 1.2
"""The pauses between two looks at an order, in seconds. Most orders end within the first second."""

_PREFERENCE = re.compile(r"(?:^|,)\s*(?:(dry-run)|wait\s*=\s*\"?([0-9]{1,9})\"?)\s*(?=[,;]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a request prefers."""

    dry_run: bool
    wait: int | None
    """Seconds, at most `LONGEST_SECONDS`. None: the request does not say."""


async def _preferences(
    prefer: Annotated[
        str | None,
        Header(
            max_length=200,
            description=f"`wait=N`: wait for the end of the order, for at most N seconds (at most {LONGEST_SECONDS}). "
            "`dry-run`: answer with the plan, and do nothing.",
        ),
    ] = None,
) -> Preferences:
    found = [match.groups() for match in _PREFERENCE.finditer(prefer or "")]
    seconds = next((min(int(wait), LONGEST_SECONDS) for _, wait in found if wait), None)
    return Preferences(dry_run=any(plan_only for plan_only, _ in found), wait=seconds)


Preferred = Annotated[Preferences, Depends(_preferences)]
"""The parameter of a route that sends an order."""


async def plan(context: ApiContext, order: AnyOrder) -> DryRun:
    """Return what the order would do now. Nothing is done."""
    (found,) = await dry_run(context.database, [NumberedOrder(1, order)])
    return DryRun.model_validate(found.as_json())


async def wait_for_end(context: ApiContext, tenant: str, order_id: str, seconds: float) -> OrderRecord | None:
    """Return the order when it has ended, was refused or was cancelled; after these seconds, as it is.

    None: the tenant has no order of this id.
    """
    clock = asyncio.get_running_loop().time
    end, pause = clock() + seconds, FIRST_PAUSE
    while True:
        record = await find_order_record(context.database, tenant, order_id)
        if record is None or record.result is not None or record.status in ENDED_WITHOUT_RESULT or clock() >= end:
            return record
        await asyncio.sleep(min(pause, max(end - clock(), 0)))
        pause = min(pause * PAUSE_FACTOR, LONGEST_PAUSE)
