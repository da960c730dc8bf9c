"""Tests of the transfer of a line on the database."""

from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from lastmile.contract.lines import Customer, ServicePlan
from lastmile.subscribers.billing import create_service
from lastmile.subscribers.errors import RecordConflictError, UnknownSubscriberError
from lastmile.subscribers.records import CreatedRecord, create_customer, create_subscriber
from lastmile.subscribers.transfers import return_line, transfer_line

Act = Callable[..., Coroutine[Any, Any, Any]]
PLAN = ServicePlan(name="fiber-500", download_kbps=500_000, upload_kbps=100_000)
EVENTS = "SELECT event, previous_customer, customer FROM billing_events ORDER BY id"


@pytest.fixture
async def subscriber(act: Act, ada: Customer) -> CreatedRecord:
    await act(create_customer, "acme", "o1", ada)
    made: CreatedRecord = await act(create_subscriber, "acme", "o1", "S-1", "C-1")
    return made


async def test_return_of_a_line_writes_the_opposite_event(
    act: Act, subscriber: CreatedRecord, owner: asyncpg.Connection
) -> None:
    await act(create_service, "acme", "o1", subscriber, "S-1", PLAN)
    await act(create_customer, "acme", "o2", Customer(ref="C-2", name="Grace"))
    before = await owner.fetchrow("SELECT * FROM subscribers")

    for _ in range(2):  # an attempt after a lost reply changes nothing
        assert await act(transfer_line, "acme", "o2", "S-1", "C-2") == "C-1"
    for happened in (True, False):
        assert await act(return_line, "o2", "S-1") is happened

    assert await owner.fetchrow("SELECT * FROM subscribers") == before
    assert [tuple(row) for row in await owner.fetch(EVENTS)] == [
        ("started", None, None),
        ("transferred", "C-1", "C-2"),
        ("transferred", "C-2", "C-1"),
    ]


async def test_transfer_to_a_deleted_customer_is_refused(act: Act, subscriber: CreatedRecord) -> None:
    with pytest.raises(RecordConflictError, match=r"Customer C-2 was deleted while the order ran\. Send the order"):
        await act(transfer_line, "acme", "o2", "S-1", "C-2")


async def test_transfer_of_an_unknown_subscriber_is_refused(act: Act) -> None:
    with pytest.raises(UnknownSubscriberError):
        await act(transfer_line, "acme", "o2", "S-9", "C-2")
