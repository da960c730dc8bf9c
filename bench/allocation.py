"""Allocations per second in an empty pool and in full pools, next to an insert and commit in the same database."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

from sqlalchemy import text

from bench.copies import SETTLE, as_owner, copied, url_of
from bench.measurements import Measurement, Target, at_least
from bench.rounds import Measured, Turn, Work, medians, rate
from ipam.allocation import allocate
from ipam.pools import Pool, add_pool
from lastmile.contract.addressing import Need, Purpose
from lastmile.db import Database
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.subscribers.tenants import add_tenant

__all__ = ["measure"]

ROUNDS = 5
SIZES = (0, 100_000, 1_000_000)
CLIENTS = {1: 150, 16: 1200}
"""The number of allocations in a round, by the number of clients."""
BARE = "one row inserted and committed"
NEED = Need(Purpose.IPV6_PD, 56)

# The data is temporary, so the fill omits foreign keys and durability.
_FILL = """
SET session_replication_role = replica;
SET synchronous_commit = off;
INSERT INTO delegations (tenant_id, pool_id, slot, prefix, subscriber_ref, purpose, allocation_key, created_by_order,
                         state)
SELECT 'acme', p.id, n, lastmile_nth_prefix(p.prefix, 56, n), 'F-' || n, 'ipv6_pd', 'acme/F-' || n || '/ipv6_pd/F',
       'F', 'active'
FROM pools p, generate_series(0, {size} - 1) n;
INSERT INTO slots (pool_id, slot, tenant_id, delegation_id)
SELECT pool_id, slot, tenant_id, id FROM delegations;
UPDATE pools SET frontier = {size};
CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, value text NOT NULL);
GRANT INSERT ON bare TO lastmile_app;
"""


async def measure(postgres: EmbeddedPostgres) -> list[Measurement]:
    """Measure rates by the size of the pool, and statements. `postgres.url` is migrated and has no connections."""
    async with AsyncExitStack() as stack:
        databases = {size: await stack.enter_async_context(_database(postgres, _name(size), size)) for size in SIZES}
        turns = {f"{kind} {size}": turn for size in SIZES for kind, turn in _turns(databases[size]).items()}
        await medians(1, turns)
        for size in SIZES:
            await as_owner(url_of(postgres.url, _name(size)), *SETTLE)
        found = await medians(ROUNDS, turns)
    return [*_measurements(found), *await _statements(postgres)]


def _turns(database: Database) -> dict[str, Turn]:
    return {"bare": _turn(_inserting(database)), "allocate": _turn(_allocating(database))}


def _turn(work: Work) -> Turn:
    async def turn() -> Measured:
        return {str(clients): await rate(work, number, clients) for clients, number in CLIENTS.items()}

    return turn


def _allocating(database: Database) -> Work:
    numbers = count()

    async def work() -> None:
        number = next(numbers)
        async with database.tenant("acme") as connection:
            await allocate(connection, tenant="acme", subscriber_ref=f"S-{number}", order_id=f"O-{number}", need=NEED)

    return work


def _inserting(database: Database) -> Work:
    statement = text("INSERT INTO bare (value) VALUES (:value)")

    async def work() -> None:
        async with database.tenant("acme") as connection:
            await connection.execute(statement, {"value": "a row of one column"})

    return work


def _measurements(found: dict[str, Measured]) -> list[Measurement]:
    full, empty = max(SIZES), min(SIZES)
    measurements = [
        Measurement(
            f"allocations, {clients} client{'s' * (clients > 1)}, {size:,} delegations",
            found[f"allocate {size}"][str(clients)],
            "/s",
            BARE,
            found[f"bare {size}"][str(clients)],
            at_least(0.7) if clients > 1 else None,
        )
        for clients in CLIENTS
        for size in SIZES
    ]
    most = str(max(CLIENTS))
    flat = Measurement(
        f"allocations, {most} clients, {full:,} delegations",
        found[f"allocate {full}"][most],
        "/s",
        "the same in an empty pool",
        found[f"allocate {empty}"][most],
        at_least(0.8),
    )
    return [*measurements, flat]


async def _statements(postgres: EmbeddedPostgres) -> list[Measurement]:
    """Count the statements in the server's log: with an allocation, minus those of an empty transaction."""

    async def logged(work: Work) -> int:
        before = _logged(postgres)
        await work()
        return _logged(postgres) - before

    async with _database(postgres, "bench_statements", 0, "SET log_statement = 'all'") as database:
        allocating = _allocating(database)

        async def nothing() -> None:
            async with database.tenant("acme"):
                pass

        await nothing()  # a new connection sends further statements
        empty = await logged(nothing)
        first, second = await logged(allocating) - empty, await logged(allocating) - empty
    most = Target("value", "≤", 3)
    return [
        Measurement("SQL statements of an allocation", second, "", target=most),
        Measurement("SQL statements of one that moves the frontier", first, "", target=most),
    ]


def _logged(postgres: EmbeddedPostgres) -> int:
    log = postgres.process.output()
    return log.count("LOG:  execute ") + log.count("LOG:  statement: ")


@asynccontextmanager
async def _database(postgres: EmbeddedPostgres, name: str, size: int, setting: str = "") -> AsyncIterator[Database]:
    """Provide a copy of the migrated database with `size` delegations in a pool, and the table of the peer."""
    async with copied(postgres.url, name, setting) as url:
        database = Database(url, pool_size=max(CLIENTS))
        try:
            await _fill(database, url, size)
            yield database
        finally:
            await database.close()


def _name(size: int) -> str:
    return f"bench_{size}"


async def _fill(database: Database, owner_url: str, size: int) -> None:
    pool = Pool(name="home", prefix="2001:db8::/32", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme")
    async with database.platform() as platform:
        await add_tenant(platform, "acme", "Acme Broadband")
        await add_pool(platform, pool)
    await as_owner(owner_url, _FILL.format(size=size), "VACUUM ANALYZE")
