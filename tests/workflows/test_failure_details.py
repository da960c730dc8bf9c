"""Tests of the words of failures: an operator reads them in the list of parked runs."""

import asyncpg
import pytest
from temporalio.exceptions import TimeoutError, TimeoutType

from lastmile.client.orders import Lastmile
from lastmile.contract import ResultStatus
from tests.support.orders import Orders, retrying
from workflows.failure_details import message_of


@pytest.mark.parametrize("kind", [TimeoutType.START_TO_CLOSE, TimeoutType.HEARTBEAT])
def test_message_of_a_timeout_says_what_happened(kind: TimeoutType) -> None:
    timeout = TimeoutError(f"activity {kind.name} timeout", type=kind, last_heartbeat_details=[])
    assert "worker" in message_of(timeout)
    assert "timeout" not in message_of(timeout)


async def test_step_that_waits_for_a_lock_names_the_other_transaction(
    lastmile: Lastmile, orders: Orders, owner: asyncpg.Connection
) -> None:
    """As a session of psql that stays open holds a row."""
    await lastmile.execute(orders.provision())
    async with owner.transaction():
        await owner.execute("SELECT FROM slots WHERE delegation_id IS NOT NULL FOR UPDATE")
        run = await lastmile.start(orders.deprovision())
        failure = await retrying(run, "release_ip_address")
    assert failure.message.startswith("The database failed: another transaction holds what this one waits for")
    assert (await run.result()).status is ResultStatus.COMPLETED
