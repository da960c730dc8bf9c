"""An estate in NetBox becomes delegations: each prefix in one transaction here, and one stamp on its record there.

The subscriber's line is up already and uses the prefix: the delegation is active from the beginning, and in RADIUS.
Until its record is stamped, it is found by NetBox's id; so whatever is cut off, another run goes on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.sessions import REPLY_ATTRIBUTES
from ipam.allocation import allocation_key
from ipam.lifecycle import State
from ipam.models import Need, Purpose
from ipam.netbox import NetBox, Stamp
from ipam.netbox.binding import BoundPool
from ipam.netbox.importer.scan import Carried
from lastmile.db import Database, TenantConnection
from lastmile.db.statements import read_sql
from lastmile.radius import accounts

__all__ = ["Fate", "Importer", "Judged"]


class Fate(StrEnum):
    """What becomes of a prefix that names a subscriber."""

    IMPORT = "import"
    STAMP = "stamp"
    """It was imported, and NetBox does not know yet."""
    OURS = "ours"
    """It is a delegation already."""
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Judged:
    carried: Carried
    fate: Fate
    reason: str = ""
    """Why it is rejected."""


_FOUND = text(read_sql("lastmile.services", "netbox_import_state"))

# Who opens an order waits for its tenant's row, by the foreign key: so none of this subscriber's begins meanwhile.
_NO_ORDER_BEGINS = text("SELECT FROM tenants WHERE id = :tenant FOR UPDATE")

# Who changes its mode waits for who imports into it, or comes first.
_STILL_DIRECT = text("SELECT 1 FROM pools WHERE id = :pool_id AND netbox_mode = 'direct' FOR KEY SHARE")

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
    """
    SELECT allocation_key, state FROM delegations
    WHERE pool_id = :pool_id AND prefix = CAST(:prefix AS cidr) AND released_at IS NULL
    """
)


class Importer:
    """Of one pool that NetBox chooses from; `run` stands for the order that each was made by, and `vrf_items` name the
    pool's VRF in RADIUS."""

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

    async def judge(self, batch: Sequence[Carried]) -> list[Judged]:
        """What would become of each, and changes nothing."""
        async with self._database.platform() as connection:
            return await self._judge(connection, batch)

    async def take(self, carried: Carried) -> Judged:
        """Import it, if it still can be; its stamp in NetBox too. Raises `NetBoxError`: another run goes on."""
        async with self._database.platform(actor=self._actor) as connection:
            await connection.execute(_NO_ORDER_BEGINS, {"tenant": carried.tenant})
            if not await connection.scalar(_STILL_DIRECT, {"pool_id": self._pool.id}):
                return Judged(carried, Fate.REJECT, "is in a pool that NetBox does not choose from any more")
            [judged] = await self._judge(connection, [carried])
            if judged.fate is Fate.IMPORT:
                await self._write(connection, carried)
        if judged.fate in (Fate.IMPORT, Fate.STAMP):
            problem = await self._stamp(carried)
            if problem:
                return Judged(carried, Fate.REJECT, problem)
        return judged

    async def _judge(self, connection: AsyncConnection, batch: Sequence[Carried]) -> list[Judged]:
        asked = {
            "pool_id": self._pool.id,
            "purpose": self._purpose,
            "tenants": [one.tenant for one in batch],
            "refs": [one.subscriber_ref for one in batch],
            "prefixes": [str(one.prefix) for one in batch],
            "keys": [one.key for one in batch],
        }
        rows: Iterable[Any] = await connection.execute(_FOUND, asked)
        return [_judged(one, found) for one, found in zip(batch, rows, strict=True)]

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
        user = accounts.username(carried.tenant, carried.subscriber_ref)
        items = [(REPLY_ATTRIBUTES[self._purpose], str(carried.prefix))]
        await accounts.write_reply_items(TenantConnection(connection), user, items)
        await accounts.add_reply_items(TenantConnection(connection), user, self._vrf_items)

    def _key(self, carried: Carried) -> str:
        need = Need(self._purpose, self._pool.length)
        return allocation_key(carried.tenant, carried.subscriber_ref, need, self._run)

    async def _stamp(self, carried: Carried) -> str:
        """Why the record is not stamped; empty where it is. Its description stays."""
        async with self._database.platform() as connection:
            found = (
                await connection.execute(_STAMPED, {"pool_id": self._pool.id, "prefix": str(carried.prefix)})
            ).one_or_none()
        record = await self._netbox.get(carried.id)
        if found is None:
            return "was released again while it was imported"
        if record is None or record.prefix != carried.prefix or record.key not in (None, found.allocation_key):
            return (
                f"is {carried.subscriber_ref}'s now, and its record was changed meanwhile: "
                "`lastmile netbox reconcile` shows what to do"
            )
        state = State(found.state)
        stamp = Stamp(
            key=found.allocation_key, subscriber_ref=carried.subscriber_ref, state=state, tenant=carried.tenant
        )
        await self._netbox.place(record, record.prefix, vrf_id=record.vrf_id, stamp=stamp)
        return ""


def _judged(one: Carried, found: Any) -> Judged:
    if found.ours:
        return Judged(one, Fate.OURS)
    imported = (found.netbox_id, found.holder, found.holder_tenant) == (one.id, one.subscriber_ref, one.tenant)
    if imported and one.key is None:
        return Judged(one, Fate.STAMP)
    reason = _reason(one, found)
    return Judged(one, Fate.REJECT, reason) if reason else Judged(one, Fate.IMPORT)


def _reason(one: Carried, found: Any) -> str:
    """Why it cannot be a delegation; empty where it can."""
    whom = f"names subscriber {one.subscriber_ref}"
    if one.key is not None:
        return f"carries the key {one.key}, which no delegation has: `lastmile netbox reconcile` shows what to do"
    if one.problem:
        return one.problem
    if not found.known:
        return f"{whom}, whom tenant {one.tenant} does not have: provision it first"
    if found.holder is not None:
        return f"is held by {found.holder} already"
    if found.rests:
        return "rests: its last holder has released it"
    if found.held is not None:
        return f"{whom}, who holds {found.held} already"
    if found.busy:
        return f"{whom}, whose order is not finished: import again afterwards"
    if not found.account:
        return f"{whom}, who has no RADIUS account: deprovision it and provision it anew"
    return ""
