"""Tenants, pools and NAS by their services, as the API will call them: without the command."""

from datetime import timedelta
from ipaddress import ip_network

import asyncpg
import pytest

from ipam.allocation import Quarantine
from ipam.errors import InvalidPoolError, PoolBusyError, UnknownPoolError
from ipam.pools import Pool
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.radius.errors import UnknownNasError
from lastmile.radius.nas import NasChange, NasRecord
from lastmile.services import nas, pools, tenants
from lastmile.subscribers.errors import RecordConflictError, UnknownTenantError

QUARANTINE = Quarantine(timedelta(days=1), timedelta(days=7))


async def test_add_tenant_twice_reports_that_it_exists(database: Database) -> None:
    new = tenants.NewTenant(id="third", name="Third Networks")

    added = [await tenants.add_tenant(database, new, actor="ada") for _ in range(2)]

    assert added == [True, False]
    assert [tenant.id for tenant in await tenants.list_tenants(database)] == ["acme", "other", "third"]
    with pytest.raises(RecordConflictError, match="exists with the name 'Third Networks'"):
        await tenants.add_tenant(database, tenants.NewTenant(id="third", name="Fourth"), actor="ada")


async def test_show_tenant_lists_its_pools_and_raises_for_an_unknown_tenant(database: Database) -> None:
    found = await tenants.show_tenant(database, "other")

    assert (found.tenant.name, found.subscribers, found.pools) == ("Other Networks", 0, ["tiny"])
    with pytest.raises(UnknownTenantError, match="There is no tenant nobody"):
        await tenants.show_tenant(database, "nobody")


async def test_add_pool_in_documentation_space_needs_force(database: Database) -> None:
    space = ip_network("2001:db8:4000::/40")
    pool = Pool(name="lab", prefix=space, purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme")

    with pytest.raises(InvalidInputError, match="Cannot add pool lab"):
        await pools.add_pool(database, None, pool, actor="ada", force=False, demonstration=False)
    await pools.add_pool(database, None, pool, actor="ada", force=True, demonstration=False)

    assert (await pools.find_pool(database, "lab")).pool == pool


async def test_find_pool_of_two_tenants_needs_the_tenant(database: Database) -> None:
    space = ip_network("2001:db8:4000::/40")
    twin = Pool(name="home", prefix=space, purpose=Purpose.IPV6_PD, delegated_length=56, tenant="other")
    await pools.add_pool(database, None, twin, actor="ada", force=True, demonstration=False)

    assert (await pools.find_pool(database, "home", "other")).pool == twin
    with pytest.raises(InvalidInputError, match=r"several pools home: .*\(acme, other\)"):
        await pools.find_pool(database, "home")
    with pytest.raises(UnknownPoolError, match="There is no pool nowhere"):
        await pools.find_pool(database, "nowhere")


async def test_pool_from_close_to_removal_reports_each_change(database: Database, owner: asyncpg.Connection) -> None:
    pool = (await pools.find_pool(database, "tiny")).pool

    assert [await pools.close_pool(database, pool, actor="ada") for _ in range(2)] == [True, False]
    assert [await pools.open_pool(database, pool, actor="ada") for _ in range(2)] == [True, False]
    await owner.execute(
        "INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,"
        " created_by_order, state) SELECT 'other', id, first_slot, '2001:db8:200::/56', 'S-1', 'ipv6_pd', 'k', 'o',"
        " 'active' FROM pools WHERE name = 'tiny'"
    )
    drained = await pools.drain_pool(database, pool, QUARANTINE, actor="ada")
    assert (drained.left.held, drained.left.nothing) == (1, False)
    assert [holder["subscriber_ref"] for holder in drained.holders] == ["S-1"]
    with pytest.raises(PoolBusyError, match="subscribers hold 1 prefix"):
        await pools.remove_pool(database, pool, QUARANTINE, actor="ada")

    await owner.execute("UPDATE delegations SET state = 'revoked', released_at = now()")
    await pools.remove_pool(database, pool, QUARANTINE, actor="ada")
    assert [use.pool.name for use in await pools.list_pools(database, "other")] == []


async def test_change_exclusions_and_extend_pool_return_the_changed_pool(database: Database) -> None:
    use = await pools.find_pool(database, "home")
    part = ip_network("2001:db8:0:100::/56")

    excluded = await pools.change_exclusions(
        database, use.pool, exclude=[part], include=[], quarantine=timedelta(days=7), actor="ada"
    )
    assert excluded.excluded == (part,)
    included = await pools.change_exclusions(
        database, excluded, exclude=[], include=[part], quarantine=timedelta(days=7), actor="ada"
    )
    assert included.excluded == ()
    with pytest.raises(InvalidPoolError, match="overlaps another pool"):
        await pools.extend_pool(database, None, use, ip_network("2001:db8::/36"), actor="ada", demonstration=False)


async def test_nas_is_found_by_name_and_address_until_it_is_removed(database: Database) -> None:
    record = NasRecord.model_validate({"address": "192.0.2.1", "name": "bng", "secret": "not-for-eyes"})

    assert [await nas.add_nas(database, record, actor="ada") for _ in range(2)] == [True, False]
    changed = await nas.change_nas(database, "bng", NasChange(coa_port=1700), actor="ada")
    found = [await nas.find_nas(database, name) for name in ("bng", "192.0.2.1")]
    assert (found[0], found[0][0]["coa_port"], changed["coa_port"]) == (found[1], 1700, 1700)
    assert "not-for-eyes" not in str(found)

    await nas.remove_nas(database, "bng", force=False, actor="ada")
    with pytest.raises(UnknownNasError, match="no NAS of name or address bng"):
        await nas.find_nas(database, "bng")
