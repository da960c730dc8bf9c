"""Lists of subscribers, delegations, sessions and histories: pages, filters, tenants and personal data."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import asyncpg
import pytest

from ipam.lifecycle import State
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.services.history import list_history
from lastmile.services.records.delegations import (
    DelegationFilter,
    find_delegation,
    list_delegation_events,
    list_delegations,
)
from lastmile.services.records.pages import Page, PageRequest
from lastmile.services.records.sessions import list_sessions
from lastmile.services.records.subscriber_list import SubscriberFilter, list_subscribers
from lastmile.services.records.subscribers import SubscriberStatus, check_known, find_subscriber
from lastmile.subscribers.errors import UnknownSubscriberError
from tests.support.audited_env import AuditedEnv

ALL = PageRequest(1000)
PERSONAL = ("Ada", "ada@example.net", "+31 20 1234567")


@pytest.fixture
async def env(database: Database, owner: asyncpg.Connection) -> AsyncIterator[AuditedEnv]:
    """Three lines of `acme`: one in service, one suspended, one archived. `other` has a record of its own of S-1."""
    async with DynamicAuthorization(timeout=0.1, tries=1, in_flight=1) as authorization:
        env = AuditedEnv(database, owner, authorization)
        await env.provision(1, olt="olt-1")
        await env.provision(2, olt="olt-2")
        await env.provision(3)
        await env.suspend(2)
        await env.deprovision(3)
        await owner.execute("UPDATE customers SET name = $1, email = $2, phone = $3", *PERSONAL)
        await owner.execute(
            """
            WITH c AS (INSERT INTO customers (tenant_id, ref, name, created_by_order)
                       VALUES ('other', 'C-9', 'Grace', 'O-9') RETURNING id)
            INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
            SELECT 'other', 'S-1', id, 'O-9' FROM c
            """
        )
        yield env


async def every_page(read: Callable[[PageRequest], Awaitable[Page[Any]]], limit: int = 1) -> list[Any]:
    """Return the records of all pages."""
    page = await read(PageRequest(limit))
    found = list(page.results)
    while page.after:
        page = await read(PageRequest(limit, page.after))
        found += page.results
    return found


async def refs(env: AuditedEnv, tenant: str | None = "acme", *, personal: bool = False, **wanted: Any) -> list[str]:
    page = await list_subscribers(env.database, tenant, ALL, SubscriberFilter(**wanted), personal=personal)
    return [found.subscriber_ref for found in page.results]


async def test_list_subscribers_by_pages_returns_each_once_with_its_status(env: AuditedEnv) -> None:
    async def read(request: PageRequest) -> Page[Any]:
        return await list_subscribers(env.database, "acme", request, SubscriberFilter(), personal=False)

    found = await every_page(read)
    assert [(one.subscriber_ref, one.status) for one in found] == [
        ("S-1", SubscriberStatus.IN_SERVICE),
        ("S-2", SubscriberStatus.SUSPENDED),
        ("S-3", SubscriberStatus.ARCHIVED),
    ]
    assert (found[0].plan, found[0].line.olt, len(found[0].addresses)) == ("fiber", "olt-1", 1)
    assert (found[2].plan, found[2].line, found[2].addresses) == (None, None, [])


async def test_list_subscribers_shows_a_subscriber_that_came_back_once(env: AuditedEnv) -> None:
    await env.provision(3, order="O-3-again")
    page = await list_subscribers(env.database, "acme", ALL, SubscriberFilter(), personal=False)
    assert [one.status for one in page.results if one.subscriber_ref == "S-3"] == [SubscriberStatus.IN_SERVICE]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"status": [SubscriberStatus.SUSPENDED, SubscriberStatus.ARCHIVED]}, ["S-2", "S-3"]),
        ({"plan": ["fiber"]}, ["S-1", "S-2"]),
        ({"plan": ["fiber"], "olt": ["olt-2"]}, ["S-2"]),
        ({"olt": ["olt-1", "olt-2"]}, ["S-1", "S-2"]),
        ({"pool": ["home"]}, ["S-1", "S-2"]),
        ({"pool": ["business"]}, []),
        ({"region": ["north"]}, []),
        ({"search": "s-2"}, ["S-2"]),
        ({"search": "%"}, []),
        ({"created_from": datetime(2099, 1, 1, tzinfo=UTC)}, []),
        ({"created_until": datetime(2099, 1, 1, tzinfo=UTC)}, ["S-1", "S-2", "S-3"]),
    ],
)
async def test_list_subscribers_filters(env: AuditedEnv, wanted: dict[str, Any], found: list[str]) -> None:
    assert await refs(env, **wanted) == found


async def test_subscribers_have_personal_data_only_on_demand(env: AuditedEnv) -> None:
    for personal in (True, False):
        page = await list_subscribers(env.database, "acme", ALL, SubscriberFilter(), personal=personal)
        subscriber = await find_subscriber(env.database, "acme", "S-1", personal=personal)
        history = await list_history(env.database, "acme", "S-1", ALL, personal=personal)
        for shown in (page.results[0].model_dump_json(), subscriber.model_dump_json()):
            assert [value in shown for value in PERSONAL] == [personal] * 3
        assert ("Ada Example" in repr(history.results)) is personal
        assert (await refs(env, personal=personal, search="ada@") != []) is personal


async def test_find_subscriber_returns_its_records(env: AuditedEnv) -> None:
    found = await find_subscriber(env.database, "acme", "S-2", personal=False)
    assert (found.status, found.suspensions[0].mode) == (SubscriberStatus.SUSPENDED, "walled_garden")
    assert found.radius is not None
    assert found.radius.username == "S-2@acme.lastmile"
    assert {device.kind for device in found.devices} == {"onu", "cpe"}
    archived = await find_subscriber(env.database, "acme", "S-3", personal=False)
    assert (archived.status, archived.archive_reason) == (SubscriberStatus.ARCHIVED, "moved away")
    assert [one.prefix for one in archived.quarantine] != []


async def test_records_of_another_tenant_are_unknown(env: AuditedEnv) -> None:
    (first, *_) = (await list_delegations(env.database, "acme", ALL, DelegationFilter())).results
    assert await refs(env, "other") == ["S-1"]
    assert await refs(env, None) == ["S-1", "S-2", "S-3", "S-1"]
    assert (await list_delegations(env.database, "other", ALL, DelegationFilter())).results == []
    assert await find_delegation(env.database, "other", first.id) is None
    assert await list_delegation_events(env.database, "other", first.id, ALL) is None
    assert (await list_history(env.database, "other", "S-2", ALL, personal=True)).results == []
    for call in (
        find_subscriber(env.database, "other", "S-2", personal=True),
        check_known(env.database, "other", "S-2"),
    ):
        with pytest.raises(UnknownSubscriberError, match="Tenant other has no subscriber S-2"):
            await call


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["S-1", "S-2", "S-3"]),
        ({"subscriber": ["S-3"]}, ["S-3"]),
        ({"state": [State.ACTIVE, State.SUSPENDED]}, ["S-1", "S-2"]),
        ({"purpose": [Purpose.IPV4]}, []),
        ({"pool": ["home"]}, ["S-1", "S-2", "S-3"]),
        ({"within": ip_network("2001:db8::/40")}, ["S-1", "S-2", "S-3"]),
        ({"within": ip_network("2001:db8:100::/40")}, []),
        ({"at": datetime(2020, 1, 1, tzinfo=UTC)}, []),
        ({"at": datetime.now(UTC) + timedelta(days=365)}, ["S-1", "S-2"]),
    ],
)
async def test_list_delegations_filters(env: AuditedEnv, wanted: dict[str, Any], found: list[str]) -> None:
    page = await list_delegations(env.database, "acme", ALL, DelegationFilter(**wanted))
    assert [one.subscriber_ref for one in page.results] == found


async def test_list_delegations_by_address_finds_its_holder(env: AuditedEnv) -> None:
    (held,) = (await list_delegations(env.database, "acme", ALL, DelegationFilter(subscriber=["S-2"]))).results
    inside = DelegationFilter(contains=ip_address(str(held.prefix).replace("/56", "42")))
    assert (await list_delegations(env.database, "acme", ALL, inside)).results == [held]
    assert (await list_delegations(env.database, None, ALL, inside)).results == [held]
    assert (await list_delegations(env.database, "other", ALL, inside)).results == []
    assert await find_delegation(env.database, "acme", held.id) == held


async def test_pages_of_delegations_events_and_history_have_each_record_once(env: AuditedEnv) -> None:
    async def delegations(request: PageRequest) -> Page[Any]:
        return await list_delegations(env.database, None, request, DelegationFilter())

    async def events(request: PageRequest) -> Page[Any]:
        page = await list_delegation_events(env.database, "acme", ended.id, request)
        assert page is not None
        return page

    async def history(request: PageRequest) -> Page[Any]:
        return await list_history(env.database, "acme", "S-3", request, personal=True)

    found = await every_page(delegations)
    assert [one.subscriber_ref for one in found] == ["S-1", "S-2", "S-3"]
    ended = found[2]
    assert [one.to_state for one in await every_page(events)] == ["allocated", "active", "revoking", "revoked"]
    assert await every_page(history, limit=4) == (await history(ALL)).results


async def test_events_outlive_their_delegation(env: AuditedEnv, owner: asyncpg.Connection) -> None:
    (ended,) = (await list_delegations(env.database, "acme", ALL, DelegationFilter(subscriber=["S-3"]))).results
    await owner.execute("DELETE FROM delegations WHERE id = $1", ended.id)
    page = await list_delegation_events(env.database, "acme", ended.id, ALL)
    assert page is not None
    assert len(page.results) == 4


async def test_list_sessions_by_pages_returns_newest_first(env: AuditedEnv, owner: asyncpg.Connection) -> None:
    await owner.execute(
        """
        INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime, acctstoptime)
        SELECT 's=23' || n, n, 'S-1@acme.lastmile', '192.0.2.1', now(), CASE WHEN n < 3 THEN now() END
        FROM generate_series(1, 3) n
        """
    )

    async def read(request: PageRequest) -> Page[Any]:
        return await list_sessions(env.database, "acme", "S-1", request)

    assert [one.session for one in await every_page(read)] == ["s#3", "s#2", "s#1"]
    for online, sessions in ((True, ["s#3"]), (False, ["s#2", "s#1"])):
        page = await list_sessions(env.database, "acme", "S-1", ALL, online=online)
        assert [one.session for one in page.results] == sessions
