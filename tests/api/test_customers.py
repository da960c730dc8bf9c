"""Forgetting a former customer over the API."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from lastmile.db import Database
from tests.support.api_keys import authorization, make_api_key

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"


@pytest.fixture
async def customer(owner: asyncpg.Connection) -> str:
    """Return a former customer, whose line `<ref>-1` is archived."""
    ref = f"C-{uuid.uuid4().hex[:12]}"
    await owner.execute(
        f"""
        INSERT INTO customers (tenant_id, ref, name, email, created_by_order)
        VALUES ('acme', '{ref}', 'Ada Lovelace', 'ada@example.net', 'O-0');
        INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order, archived_at)
        SELECT 'acme', '{ref}-1', id, 'O-0', now() FROM customers
        """
    )
    return ref


@pytest.fixture
async def acme(api: httpx.AsyncClient, database: Database) -> httpx.AsyncClient:
    api.headers.update(authorization(await make_api_key(database)))
    return api


async def forget(api: httpx.AsyncClient, customer: str) -> httpx.Response:
    return await api.delete(f"/v1/customers/{customer}/personal-data")


async def test_customer_is_forgotten_when_no_order_of_the_customer_waits(
    acme: httpx.AsyncClient, customer: str, owner: asyncpg.Connection
) -> None:
    """No worker runs: every order waits."""
    provision = {
        "operation": "provision",
        "customer": {"ref": customer, "name": "Ada Lovelace", "phone": "+44 20 7946 0000"},
        "plan": {"name": "fiber", "download_kbps": 500_000, "upload_kbps": 250_000},
        "line": {"connection_type": "ftth", "onu_serial": "ACME00000001", "cpe_mac": "00:1a:2b:00:00:01"},
    }
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    of_other_line: dict[str, Any] = {"subscriber_ref": f"{customer}-2"}
    of_former_line = {"operation": "resume", "subscriber_ref": f"{customer}-1"}
    for order in (
        provision | of_other_line,
        provision | of_other_line | {"not_before": tomorrow},
        of_former_line | {"not_before": tomorrow},
    ):
        order_id = f"O-{uuid.uuid4().hex[:12]}"
        accepted = await acme.post("/v1/orders", json=order | {"order_id": order_id})
        assert accepted.status_code == 202, accepted.text
        refused = await forget(acme, customer)
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/conflict")
        assert f"orders that have not ended: {order_id}. Cancel" in refused.json()["detail"]
        assert (await acme.post(f"/v1/orders/{order_id}/cancel", json={"reason": "test"})).status_code == 200

    done = await forget(acme, customer)
    assert (done.status_code, done.json()) == (200, {"customer": customer, "subscribers": [f"{customer}-1"], "runs": 0})
    assert (await forget(acme, customer)).json() == done.json()
    tables = [row["relname"] for row in await owner.fetch(TABLES)]
    stored = [await owner.fetchval(f"SELECT coalesce(string_agg(t::text, ''), '') FROM {table} t") for table in tables]
    assert [one for one in ("Lovelace", "ada@", "7946") if one in "".join(stored)] == []


async def test_customer_of_an_open_order_is_not_forgotten(
    acme: httpx.AsyncClient, customer: str, owner: asyncpg.Connection
) -> None:
    """An open transfer will give the customer a line. An order of a line that another customer has now does not."""
    await owner.execute(
        f"""
        INSERT INTO orders
            (tenant_id, order_id, operation, effect, subscriber_ref, customer_ref, digest, run_id, status)
        VALUES ('acme', 'O-1', 'transfer', 'changes', 'S-7', '{customer}', 'd', 'r', 'running');
        INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C-next', 'Bob', 'O-0');
        INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
        SELECT 'acme', '{customer}-1', id, 'O-0' FROM customers WHERE ref = 'C-next';
        INSERT INTO accepted_orders (tenant_id, order_id, operation, subscriber_ref, digest, urgency, when_busy, state)
        VALUES ('acme', 'O-2', 'resume', '{customer}-1', 'd', 'normal', 'wait', 'scheduled')
        """
    )
    refused = await forget(acme, customer)
    assert refused.status_code == 409
    assert "orders that have not ended: O-1. Cancel" in refused.json()["detail"]
    assert await owner.fetchval("SELECT name FROM customers WHERE ref = $1", customer) == "Ada Lovelace"
    await owner.execute("UPDATE orders SET status = 'rolled_back'")
    done = await forget(acme, customer)
    assert (done.status_code, done.json()["subscribers"]) == (200, [f"{customer}-1", "S-7"])


async def test_unknown_customer_and_that_of_another_tenant_are_not_found(
    acme: httpx.AsyncClient, customer: str, database: Database, owner: asyncpg.Connection
) -> None:
    assert (await forget(acme, "C-none")).json()["type"] == "/problems/not-found"
    other = authorization(await make_api_key(database, tenant="other"))
    acme.headers.update(other)
    assert (await forget(acme, customer)).json()["type"] == "/problems/not-found"
    assert await owner.fetchval("SELECT name FROM customers") == "Ada Lovelace"
