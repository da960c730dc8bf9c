"""Tests of billing services and their events."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from lastmile.contract.lines import Customer, ServicePlan
from lastmile.subscribers.billing import cancel_service, create_service, end_service, resume_service, suspend_service
from lastmile.subscribers.errors import RecordConflictError
from lastmile.subscribers.records import CreatedRecord, archive_subscriber, create_customer, create_subscriber

Act = Callable[..., Coroutine[Any, Any, Any]]
PLAN = ServicePlan(name="fiber-500", download_kbps=500_000, upload_kbps=100_000, price_ref="P-7")


@pytest.fixture
async def subscriber(act: Act, ada: Customer) -> CreatedRecord:
    await act(create_customer, "acme", "o1", ada)
    record: CreatedRecord = await act(create_subscriber, "acme", "o1", "S-1", "C-1")
    return record


@pytest.fixture
async def service(act: Act, subscriber: CreatedRecord) -> CreatedRecord:
    """Create the service fiber-500 of S-1 by order o1."""
    record: CreatedRecord = await act(create_service, "acme", "o1", subscriber, "S-1", PLAN)
    return record


async def events(owner: asyncpg.Connection) -> list[tuple[str, str]]:
    """Return each billing event with its order."""
    rows = await owner.fetch("SELECT * FROM billing_events ORDER BY id")
    assert all((row["subscriber_ref"], row["plan"], row["price_ref"]) == ("S-1", "fiber-500", "P-7") for row in rows)
    return [(row["event"], row["order_id"]) for row in rows]


async def status(owner: asyncpg.Connection) -> str | None:
    found: str | None = await owner.fetchval("SELECT status FROM billing_services ORDER BY started_at DESC LIMIT 1")
    return found


async def test_create_service_again_writes_one_service_and_one_event(
    act: Act, subscriber: CreatedRecord, service: CreatedRecord, owner: asyncpg.Connection
) -> None:
    assert await act(create_service, "acme", "o1", subscriber, "S-1", PLAN) == service
    assert await act(create_service, "acme", "o2", subscriber, "S-1", PLAN) == service
    assert await events(owner) == [("started", "o1")]


async def test_another_plan_is_a_conflict(act: Act, subscriber: CreatedRecord, service: CreatedRecord) -> None:
    other = PLAN.model_copy(update={"name": "fiber-1000"})
    with pytest.raises(
        RecordConflictError, match=r"plan\.name: subscriber S-1 is charged for plan fiber-500, not fiber-1000"
    ):
        await act(create_service, "acme", "o2", subscriber, "S-1", other)


async def test_cancel_service_of_another_order_changes_nothing(
    act: Act, service: CreatedRecord, owner: asyncpg.Connection
) -> None:
    assert await act(cancel_service, "S-1", "o2") is False
    assert await status(owner) == "active"
    assert await act(cancel_service, "S-1", "o1") is True
    assert await act(cancel_service, "S-1", "o1") is False
    assert await status(owner) is None
    assert await events(owner) == [("started", "o1"), ("cancelled", "o1")]


async def test_service_from_start_to_end_writes_an_event_for_each_change(
    act: Act, service: CreatedRecord, owner: asyncpg.Connection
) -> None:
    for change, order in (
        (suspend_service, "o2"),
        (suspend_service, "o2"),  # a second attempt
        (resume_service, "o2"),
        (suspend_service, "o3"),
        (end_service, "o3"),
    ):
        assert await change_of(act, change, order) is True
    assert await act(end_service, "S-1", "o3") is False
    assert await status(owner) == "ended"
    assert await events(owner) == [
        ("started", "o1"), ("suspended", "o2"), ("resumed", "o2"), ("suspended", "o3"), ("ended", "o3"),
    ]  # fmt: skip


async def change_of(act: Act, change: Callable[..., Awaitable[bool]], order: str) -> bool:
    return bool(await act(change, "S-1", order))


async def test_resume_service_of_another_order_changes_nothing(
    act: Act, service: CreatedRecord, owner: asyncpg.Connection
) -> None:
    await act(suspend_service, "S-1", "o2")
    assert await act(suspend_service, "S-1", "o3") is False
    assert await act(resume_service, "S-1", "o3") is False
    assert await status(owner) == "suspended"


async def test_suspend_service_without_a_service_returns_false(act: Act, subscriber: CreatedRecord) -> None:
    assert await act(suspend_service, "S-1", "o2") is False
    assert await act(end_service, "S-1", "o2") is False


async def test_create_service_after_an_ended_one_starts_a_new_service(
    act: Act, service: CreatedRecord, owner: asyncpg.Connection
) -> None:
    await act(end_service, "S-1", "o2")
    await act(archive_subscriber, "S-1", "o2", "moved away")
    back = await act(create_subscriber, "acme", "o3", "S-1", "C-1")
    other = PLAN.model_copy(update={"download_kbps": 1})
    again = await act(create_service, "acme", "o3", back, "S-1", other)
    assert (again.id != service.id, again.created_by_order) == (True, "o3")
    assert await events(owner) == [("started", "o1"), ("ended", "o2"), ("started", "o3")]
    assert await owner.fetchval("SELECT count(*) FROM billing_services") == 2
