"""What Kea reads and writes in Lastmile's database. tests/system/access/test_kea.py runs a real Kea on it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from lastmile.devstack.logins import make_login

LINES = """
INSERT INTO tenants (id, name) VALUES ('acme', 'Acme'), ('other', 'Other');
INSERT INTO customers (tenant_id, ref, name, created_by_order) VALUES ('acme', 'C', 'A', 'o'), ('other', 'C', 'B', 'o');
INSERT INTO subscribers (tenant_id, ref, customer_id, created_by_order)
    SELECT tenant_id, 'S-' || nth, id, 'o' FROM customers, generate_series(1, 3) nth;
INSERT INTO network_profiles (tenant_id, subscriber_id, connection_type, option82_policy, duid, created_by_order)
    SELECT tenant_id, id, 'ftth', 'log', CASE ref WHEN 'S-3' THEN NULL ELSE '00:03:00:01:0' || right(ref, 1) END, 'o'
    FROM subscribers;
INSERT INTO pools (name, vrf, purpose, prefix, delegated_length, first_slot, end_slot, frontier)
    VALUES ('home', '', 'ipv6_pd', '2001:db8::/48', 56, 0, 256, 0),
           ('red', 'red', 'ipv6_pd', '2001:db8::/48', 56, 0, 256, 0);
"""
# The columns of Kea's table that Lastmile's functions use, without Kea's own triggers.
LEASES = """
CREATE SCHEMA leases;
CREATE TABLE leases.lease6 (
    address varchar(39) PRIMARY KEY, duid bytea, lease_type smallint, prefix_len smallint
);
GRANT USAGE ON SCHEMA leases TO lastmile_kea;
GRANT SELECT, INSERT, UPDATE, DELETE ON leases.lease6 TO lastmile_kea;
SELECT kea.attach('leases');
"""
DUID_1, DUID_2 = bytes.fromhex("0003000101"), bytes.fromhex("0003000102")
LEASE = "INSERT INTO leases.lease6 (address, prefix_len, lease_type, duid) VALUES ($1, 56, 2, $2)"


@pytest.fixture
async def lines(owner: asyncpg.Connection) -> asyncpg.Connection:
    """The owner of a database with two tenants, each with two lines with a DUID and one without."""
    await owner.execute(LINES)
    return owner


@pytest.fixture
async def kea(owner_url: str, lines: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The connection of a Kea that serves acme in the global routing table."""
    url = await make_login(owner_url, "tests_kea", "chosen-by-the-test", "lastmile_kea")
    await lines.execute(LEASES)
    settings = {"search_path": "kea, leases", "lastmile.tenant": "acme"}
    connection = await asyncpg.connect(url, server_settings=settings)
    yield connection
    await connection.close()


async def delegate(
    owner: asyncpg.Connection, slot: int, subscriber: str = "S-1", tenant: str = "acme", vrf: str = "", **row: str
) -> int:
    """Delegate the n-th prefix of the VRF's pool; return the delegation's id."""
    values = {"purpose": "ipv6_pd", "state": "active"} | row
    delegation: int = await owner.fetchval(
        "INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key,"
        " created_by_order, state) SELECT $1, id, $2, lastmile_nth_prefix(prefix, 56, $2), $3, $4, $5, 'o', $6"
        " FROM pools WHERE vrf = $7 RETURNING id",
        *(tenant, slot, subscriber, values["purpose"], f"{subscriber}/{slot}", values["state"], vrf),
    )
    return delegation


async def reserved(kea: asyncpg.Connection) -> list[tuple[bytes, str]]:
    """Read the reservations with the columns that Kea reads."""
    rows = await kea.fetch(
        "SELECT h.dhcp_identifier, h.dhcp_identifier_type, h.dhcp6_subnet_id, r.type, r.address, r.prefix_len"
        " FROM hosts h LEFT JOIN ipv6_reservations r ON h.host_id = r.host_id ORDER BY r.address"
    )
    assert {(row["dhcp_identifier_type"], row["dhcp6_subnet_id"], row["type"]) for row in rows} <= {(1, 0, 2)}
    return [(row["dhcp_identifier"], f"{row['address']}/{row['prefix_len']}") for row in rows]


async def test_kea_reads_the_prefixes_in_service_of_its_tenant(
    lines: asyncpg.Connection, kea: asyncpg.Connection
) -> None:
    await delegate(lines, 1)
    await delegate(lines, 2, "S-3")  # without a DUID
    await delegate(lines, 3, "S-1", "other")
    await delegate(lines, 1, "S-2", vrf="red")
    await delegate(lines, 4, "S-2", purpose="ipv6_framed")
    assert await reserved(kea) == [(DUID_1, "2001:db8:0:100::/56")]

    await kea.execute("SET lastmile.vrf = 'red'")
    assert await reserved(kea) == [(DUID_2, "2001:db8:0:100::/56")]
    await kea.execute("RESET lastmile.tenant")
    await kea.execute("SET lastmile.tenant = ''")
    assert await reserved(kea) == []


@pytest.mark.parametrize("state", ["allocated", "suspended", "revoking", "revoked", "failed"])
async def test_kea_reads_no_prefix_out_of_service(
    lines: asyncpg.Connection, kea: asyncpg.Connection, state: str
) -> None:
    await delegate(lines, 1, state=state)
    assert await reserved(kea) == []


async def test_kea_reads_only_the_new_prefix_during_an_overlap(
    lines: asyncpg.Connection, kea: asyncpg.Connection
) -> None:
    replaced = await delegate(lines, 1)
    await lines.execute(
        "UPDATE delegations SET replaced_by_order = 'o2', replaced_at = now(), replaced_until = now() WHERE id = $1",
        replaced,
    )
    await delegate(lines, 2)
    assert await reserved(kea) == [(DUID_1, "2001:db8:0:200::/56")]


async def test_kea_has_no_right_to_tables_or_set_up(kea: asyncpg.Connection) -> None:
    for statement in (
        "SELECT FROM public.network_profiles",
        "SELECT FROM public.delegations",
        "SELECT FROM kea.reservations",
        "SELECT kea.attach('leases')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await kea.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE delegations SET state = 'suspended'",
        "UPDATE delegations SET state = 'revoking'",
        "UPDATE delegations SET replaced_by_order = 'o2', replaced_at = now(), replaced_until = now()",
        "UPDATE network_profiles SET duid = '00:03:00:01:07' WHERE duid = '00:03:00:01:01'",
        "DELETE FROM network_profiles WHERE duid = '00:03:00:01:01'",
    ],
)
async def test_end_of_a_reservation_deletes_the_lease(
    lines: asyncpg.Connection, kea: asyncpg.Connection, change: str
) -> None:
    await delegate(lines, 1)
    await delegate(lines, 2, "S-2")
    await kea.execute(LEASE, "2001:db8:0:100::", DUID_1)
    await kea.execute(LEASE, "2001:db8:0:200::", DUID_2)

    await lines.execute(
        f"{change} {'AND' if 'WHERE' in change else 'WHERE'} tenant_id = 'acme'"
        + (" AND subscriber_ref = 'S-1'" if "delegations" in change else "")
    )

    assert await kea.fetch("SELECT address FROM lease6") == [("2001:db8:0:200::",)]


async def test_change_of_a_line_that_keeps_its_duid_keeps_the_lease(
    lines: asyncpg.Connection, kea: asyncpg.Connection
) -> None:
    await delegate(lines, 1)
    await kea.execute(LEASE, "2001:db8:0:100::", DUID_1)
    await lines.execute("UPDATE network_profiles SET duid = duid, olt = 'olt-2'")
    assert await kea.fetchval("SELECT count(*) FROM lease6") == 1


@pytest.mark.parametrize(("address", "duid"), [("2001:db8:0:200::", DUID_1), ("2001:db8:0:100::", DUID_2)])
async def test_lease_without_a_reservation_is_refused(
    lines: asyncpg.Connection, kea: asyncpg.Connection, address: str, duid: bytes
) -> None:
    await delegate(lines, 1)
    with pytest.raises(asyncpg.CheckViolationError, match="no active delegation"):
        await kea.execute(LEASE, address, duid)


async def test_lease_beside_the_end_of_its_reservation_is_refused(
    lines: asyncpg.Connection, kea: asyncpg.Connection
) -> None:
    """Kea has read the reservation before; its lease waits for the order, and is refused."""
    await delegate(lines, 1)
    async with lines.transaction():
        await lines.execute("UPDATE delegations SET state = 'suspended'")
        lease = asyncio.create_task(kea.execute(LEASE, "2001:db8:0:100::", DUID_1))
        waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'"
        while True:
            if await lines.fetchval(waiting, kea.get_server_pid()):
                break
            await asyncio.sleep(0.01)  # a lock cannot be waited for
    with pytest.raises(asyncpg.CheckViolationError):
        await lease
    assert await lines.fetchval("SELECT count(*) FROM leases.lease6") == 0


async def test_reservation_ends_after_the_schema_of_the_leases_was_dropped(
    lines: asyncpg.Connection, kea: asyncpg.Connection
) -> None:
    await delegate(lines, 1)
    await lines.execute("DROP SCHEMA leases CASCADE")
    await lines.execute("UPDATE delegations SET state = 'suspended'")
    assert await reserved(kea) == []
