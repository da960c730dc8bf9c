"""Whether one pool can be renumbered to another one, and which order a line gets."""

import asyncpg
import pytest

from ipam.errors import UnknownPoolError
from ipam.pools import Pool, add_pool
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.errors import InvalidInputError
from lastmile.services.pool_renumbering import plan_renumbering
from lastmile.services.pools import find_pool

HELD = """
    INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,
                             created_by_order, state)
    SELECT 'acme', p.id, n, lastmile_nth_prefix(p.prefix, 56, n), 'S-' || n, 'ipv6_pd', 'acme/S-' || n || '/ipv6_pd/O',
           'O', 'active'
    FROM pools p, generate_series(0, $1::int - 1) n WHERE p.name = 'home'
"""


async def add(database: Database, name: str, prefix: str, tenant: str | None = "acme", **changes: object) -> None:
    values = {"purpose": Purpose.IPV6_PD, "delegated_length": 56, **changes}
    async with database.platform() as platform:
        await add_pool(platform, Pool(name=name, prefix=prefix, tenant=tenant, **values))


async def test_pool_that_fits_is_planned_with_its_lines(database: Database, owner: asyncpg.Connection) -> None:
    await add(database, "new", "2001:db8:300::/40", tenant=None)
    await owner.execute(HELD, 3)
    await owner.execute("UPDATE pools SET closed_at = now() WHERE name = 'home'")
    plan = await plan_renumbering(database, await find_pool(database, "home"), "new")
    assert (plan.lines.counts, plan.target.pool.name) == ({"to_renumber": 3}, "new")


async def test_pools_that_do_not_fit_are_refused_with_every_reason(
    database: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute(HELD, 3)
    await add(database, "new", "2001:db8:400::/56", vrf="red")
    await owner.execute("UPDATE pools SET closed_at = now() WHERE name = 'new'")
    home = await find_pool(database, "home")

    with pytest.raises(InvalidInputError) as told:
        await plan_renumbering(database, home, "new")

    assert str(told.value).splitlines() == [
        "Pool home cannot be renumbered to pool new:",
        "  pool home still assigns prefixes: close it with `lastmile pool close home` first",
        "  pool new is closed: open it with `lastmile pool open new`",
        "  pool home is in the default VRF, and pool new in VRF 'red'",
        "  pool new has 1 free prefix, and 3 lines are to be renumbered: extend it",
    ]
    with pytest.raises(InvalidInputError, match="pool home assigns /56s, and pool business /48s"):
        await plan_renumbering(database, home, "business")
    with pytest.raises(InvalidInputError, match="pool home is for ipv6_pd, and pool static for ipv4"):
        await plan_renumbering(database, home, "static")
    with pytest.raises(InvalidInputError, match="it is the same pool"):
        await plan_renumbering(database, home, "home")
    with pytest.raises(UnknownPoolError, match="There is no pool tiny that serves tenant acme"):
        await plan_renumbering(database, home, "tiny")


async def test_target_whose_name_another_pool_of_the_tenants_has_is_refused(
    database: Database, owner: asyncpg.Connection
) -> None:
    await add(database, "shared", "2001:db8:500::/40", tenant=None)
    await add(database, "new", "2001:db8:600::/40", tenant=None)
    await add(database, "new", "2001:db8:700::/40", tenant="other")
    await owner.execute("UPDATE pools SET closed_at = now() WHERE name = 'shared'")
    with pytest.raises(InvalidInputError, match="several pools of its tenants are named new"):
        await plan_renumbering(database, await find_pool(database, "shared"), "new")
