"""The import of prefixes from NetBox as delegations: one transaction in the database, and one stamp on the record.

The subscriber's line is in service and uses the prefix: the delegation is active at once, and is in RADIUS. Until its
record is stamped, the delegation is found by the record's id. So the next import continues after an interruption.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.allocation_key import AllocationKey
from ipam.delegations import COLUMNS, Delegation
from ipam.modes import DirectMode
from ipam.netbox import NetBox, Stamp
from ipam.netbox.binding import BoundPool, pool_named
from ipam.netbox.importer.scan import Carried, ImportScan
from ipam.pools import Pool
from lastmile.contract.addressing import Purpose
from lastmile.contract.lines import Reference
from lastmile.db import Database, TenantConnection
from lastmile.db.statements import read_sql
from lastmile.errors import InvalidInputError
from lastmile.radius import accounts
from lastmile.radius.reply_attributes import REPLY_ATTRIBUTES
from lastmile.radius.reply_items import add_reply_items, write_reply_items
from lastmile.radius.vrf import VrfAttribute

__all__ = ["ImportVerdict", "InspectedPrefix", "NetBoxImport", "PrefixImporter"]


class ImportVerdict(StrEnum):
    """What the import does with a prefix that names a subscriber."""

    IMPORT = "import"
    STAMP = "stamp"
    """The prefix is imported, and its record is not stamped yet."""
    MANAGED = "managed"
    """The prefix is a delegation already."""
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class InspectedPrefix:
    """A prefix that names a subscriber, with the verdict on its import."""

    carried: Carried
    verdict: ImportVerdict
    reason: str = ""
    """Why the prefix is rejected."""

    @property
    def importable(self) -> bool:
        """The import has to write something for the prefix."""
        return self.verdict in (ImportVerdict.IMPORT, ImportVerdict.STAMP)


_FOUND = text(read_sql("lastmile.services", "netbox_import_state"))

# An order that opens waits for this lock, because of its foreign key. So no order of the subscriber begins meanwhile.
_LOCK_TENANT = text("SELECT FROM tenants WHERE id = :tenant FOR UPDATE")

# A change of the pool's mode waits for the end of this transaction, or has happened before.
_LOCK_DIRECT_POOL = text("SELECT 1 FROM pools WHERE id = :pool_id AND mode = 'direct' FOR KEY SHARE")

_IMPORT = text(
    """
    WITH made AS (
        INSERT INTO delegations (tenant_id, pool_id, prefix, netbox_id, subscriber_ref, purpose, allocation_key,
                                 created_by_order, state)
        VALUES (:tenant, :pool_id, CAST(:prefix AS cidr), :netbox_id, :ref, :purpose, :key, :run, 'active')
        RETURNING *
    )
    INSERT INTO delegation_events (tenant_id, delegation_id, prefix, subscriber_ref, from_state, to_state, order_id,
                                   reason)
    SELECT tenant_id, id, prefix, subscriber_ref, step.before, step.after, :run, 'imported from NetBox'
    FROM made CROSS JOIN (VALUES ('pending', 'allocated'), ('allocated', 'active')) step (before, after)
    """
)

_STAMPED = text(
    f"""
    SELECT {COLUMNS} FROM delegations
    WHERE pool_id = :pool_id AND prefix = CAST(:prefix AS cidr) AND released_at IS NULL
    """
)


class PrefixImporter:
    """Imports prefixes into one direct pool.

    `run` is the order id of the delegations. `vrf_items` name the pool's VRF in RADIUS.
    """

    def __init__(
        self,
        database: Database,
        netbox: NetBox,
        pool: BoundPool,
        purpose: Purpose,
        *,
        run: str,
        actor: str,
        vrf_items: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._database = database
        self._netbox = netbox
        self._pool = pool
        self._purpose = purpose
        self._run = run
        self._actor = actor
        self._vrf_items = vrf_items

    async def inspect(self, batch: Sequence[Carried]) -> list[InspectedPrefix]:
        """Return the verdict on each prefix, and change nothing."""
        async with self._database.platform() as connection:
            return await self._inspect(connection, batch)

    async def import_prefix(self, carried: Carried) -> InspectedPrefix:
        """Import the prefix if it is still possible, and stamp its record.

        Raises `NetBoxError`: the next import stamps the record.
        """
        async with self._database.platform(actor=self._actor) as connection:
            await connection.execute(_LOCK_TENANT, {"tenant": carried.tenant})
            if not await connection.scalar(_LOCK_DIRECT_POOL, {"pool_id": self._pool.id}):
                reason = "is in a pool that NetBox does not choose from any more"
                return InspectedPrefix(carried, ImportVerdict.REJECT, reason)
            [inspected] = await self._inspect(connection, [carried])
            if inspected.verdict is ImportVerdict.IMPORT:
                await self._write(connection, carried)
        if inspected.importable and (problem := await self._stamp(carried)):
            return InspectedPrefix(carried, ImportVerdict.REJECT, problem)
        return inspected

    async def _inspect(self, connection: AsyncConnection, batch: Sequence[Carried]) -> list[InspectedPrefix]:
        asked = {
            "pool_id": self._pool.id,
            "purpose": self._purpose,
            "tenants": [one.tenant for one in batch],
            "refs": [one.subscriber_ref for one in batch],
            "prefixes": [str(one.prefix) for one in batch],
            "keys": [one.key for one in batch],
        }
        rows: Iterable[Any] = await connection.execute(_FOUND, asked)
        return [_verdict(one, found) for one, found in zip(batch, rows, strict=True)]

    async def _write(self, connection: AsyncConnection, carried: Carried) -> None:
        values = {
            "tenant": carried.tenant,
            "pool_id": self._pool.id,
            "prefix": str(carried.prefix),
            "netbox_id": carried.id,
            "ref": carried.subscriber_ref,
            "purpose": self._purpose,
            "key": self._key(carried),
            "run": self._run,
        }
        await connection.execute(_IMPORT, values)
        user = await accounts.find_username(TenantConnection(connection), carried.tenant, carried.subscriber_ref)
        items = [(REPLY_ATTRIBUTES[self._purpose], str(carried.prefix))]
        await write_reply_items(TenantConnection(connection), user, items)
        await add_reply_items(TenantConnection(connection), user, self._vrf_items)

    def _key(self, carried: Carried) -> str:
        return str(AllocationKey(carried.tenant, carried.subscriber_ref, self._purpose, self._run))

    async def _stamp(self, carried: Carried) -> str:
        """Stamp the record, and keep its description. Return why it is not stamped; empty if it is."""
        async with self._database.platform() as connection:
            found = (
                await connection.execute(_STAMPED, {"pool_id": self._pool.id, "prefix": str(carried.prefix)})
            ).one_or_none()
        record = await self._netbox.get(carried.id)
        if found is None:
            return "was released again while it was imported"
        stamp = replace(Stamp.of(Delegation.of(found)), description=None)
        if record is None or record.prefix != carried.prefix or record.key not in (None, stamp.key):
            return (
                f"is {carried.subscriber_ref}'s now, and its record was changed meanwhile: "
                "`lastmile netbox reconcile` shows what to do"
            )
        await self._netbox.place(record, record.prefix, vrf_id=record.vrf_id, stamp=stamp)
        return ""


class NetBoxImport:
    """The import of all prefixes of a direct pool, in one pass over NetBox's records."""

    def __init__(self, database: Database, netbox: NetBox, *, actor: str, vrf_attribute: VrfAttribute | None) -> None:
        self.ignored = 0
        """The number of prefixes that name no subscriber."""
        self._database = database
        self._netbox = netbox
        self._actor = actor
        self._vrf_attribute = vrf_attribute

    async def run(self, pool: Pool, field: str | None, *, apply: bool) -> AsyncIterator[InspectedPrefix]:
        """Yield each prefix that names a subscriber; with `apply`, after its import.

        The reference is in the custom field, or is the description. Raises `InvalidInputError` if the pool is not
        direct, `UnknownFieldError`, and `NetBoxError`.
        """
        if not isinstance(pool.netbox, DirectMode):
            raise InvalidInputError(
                f"Pool {pool.name} is not one that NetBox chooses from: import into it while it is "
                f"(lastmile pool set {pool.name} --netbox direct), and change it back afterwards."
            )
        async with self._database.platform() as connection:
            bound = await pool_named(connection, pool.name, pool.tenant)
        await self._netbox.require()
        importer = self._importer(pool, bound)
        with ImportScan(bound, pool.tenant, field, TypeAdapter(Reference)) as scan:
            await scan.read(self._netbox.records(vrf_id=bound.netbox.vrf_id, within=bound.prefix))
            self.ignored = scan.others
            for batch in scan.carried():
                for inspected in await importer.inspect(batch):
                    if apply and inspected.importable:
                        yield await importer.import_prefix(inspected.carried)
                    else:
                        yield inspected

    def _importer(self, pool: Pool, bound: BoundPool) -> PrefixImporter:
        run = f"import-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        vrf_items = [self._vrf_attribute.item(pool.vrf)] if self._vrf_attribute and pool.vrf else []
        return PrefixImporter(
            self._database, self._netbox, bound, pool.purpose, run=run, actor=self._actor, vrf_items=vrf_items
        )


def _verdict(one: Carried, found: Any) -> InspectedPrefix:
    if found.managed:
        return InspectedPrefix(one, ImportVerdict.MANAGED)
    imported = (found.netbox_id, found.holder, found.holder_tenant) == (one.id, one.subscriber_ref, one.tenant)
    if imported and one.key is None:
        return InspectedPrefix(one, ImportVerdict.STAMP)
    reason = _reason(one, found)
    return InspectedPrefix(one, ImportVerdict.REJECT, reason) if reason else InspectedPrefix(one, ImportVerdict.IMPORT)


def _reason(one: Carried, found: Any) -> str:
    """Return why the prefix cannot be a delegation; empty if it can."""
    names = f"names subscriber {one.subscriber_ref}"
    if one.key is not None:
        return f"carries the key {one.key}, which no delegation has: `lastmile netbox reconcile` shows what to do"
    if one.problem:
        return one.problem
    if not found.known:
        return f"{names}, whom tenant {one.tenant} does not have: provision it first"
    if found.holder is not None:
        return f"is held by {found.holder} already"
    if found.in_quarantine:
        return "is in quarantine: its last holder has released it"
    if found.held is not None:
        return f"{names}, who holds {found.held} already"
    if found.busy:
        return f"{names}, whose order is not finished: import again afterwards"
    if not found.account:
        return f"{names}, who has no RADIUS account: deprovision it and provision it anew"
    return ""
