"""Fixtures for records of tenant `acme`, with a transaction for each call."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from lastmile.contract.lines import Customer, Line
from lastmile.db import Database

Act = Callable[..., Coroutine[Any, Any, Any]]


@pytest.fixture
def act(database: Database) -> Act:
    """Return `act(function, *arguments)`, which runs the function in a transaction of tenant acme."""

    async def in_transaction(function: Callable[..., Awaitable[Any]], *arguments: Any, tenant: str = "acme") -> Any:
        async with database.tenant(tenant) as connection:
            return await function(connection, *arguments)

    return in_transaction


@pytest.fixture
def ada() -> Customer:
    return Customer(ref="C-1", name="Ada Lovelace", email="ada@example.net", phone="+44 20 7946 0000")


@pytest.fixture
def line() -> Line:
    return Line(
        connection_type="ftth",
        onu_serial="ABCD00000001",
        onu_type="F660",
        speed_profile="500M",
        olt="olt-7",
        pon_port="1/1/4",
        cpe_mac="00-1A-2B-3C-4D-5E",
        cpe_oui="00D09E",
        cpe_product_class="HGW-1",
        cpe_serial="CPE000001",
        duid="00030001001a2b3c4d5e",
        s_vlan=100,
        c_vlan=7,
        circuit_id="olt-7 eth 1/1/4",
        remote_id="S-1",
        option82_policy="enforce",
    )
