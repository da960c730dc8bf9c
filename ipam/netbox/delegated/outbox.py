"""The outbox: prefixes of delegated pools that are to be reported to NetBox (table `netbox_records`).

- A trigger marks a prefix in the transaction that changes its delegation, in pools whose `record` is `prefix`. A change
  of `record`, or of the length of a quarantine, marks the prefixes that it concerns.
- A report brings NetBox to the present state of the prefix, not through each change. So each prefix has one row, and
  the order of changes does not matter.
- A worker claims a row for a time (`claimed_until`). A worker that stalls past that time has the prefix reported again,
  since its own late request may have overwritten a newer report.
- A first report does not look the prefix up in NetBox: that would double the requests.
- After a request whose outcome is unknown (`unsure`), the next report looks the prefix up. Another report follows when
  that request must have ended: until then it may overwrite what came after it.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from ipam.delegations import COLUMNS, Delegation
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import BoundPool
from ipam.netbox.delegated.outbox_sync import Entry, PrefixOccupiedError, sync_record
from ipam.netbox.direct.pending_removals import LATE
from ipam.netbox.errors import (
    AmbiguousWriteError,
    KeyTakenError,
    NetBoxError,
    NetBoxInvalidError,
    NetBoxNotFoundError,
    NetBoxTenantMissingError,
)
from lastmile.db import Database

__all__ = ["Backlog", "backlog", "drain", "report_again"]

# More requests at once make NetBox slow for its users, and no faster for Lastmile.
IN_FLIGHT = 4
CHUNK = 4
# Longer than the client tries all requests of a chunk. After it another worker can claim the rows of one that died.
CLAIM = timedelta(minutes=5)
# The pause before looking for a record whose creation may have succeeded, and before retrying what NetBox refused.
UNKNOWN, REFUSED = timedelta(seconds=2), timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far NetBox is behind the database, in one pool."""

    waiting: int
    lag: timedelta
    """How long the oldest report has waited; also where NetBox refuses it."""
    refused: int
    """The number of waiting reports that NetBox refused; `problem` in their rows says why."""
    unsettled_until: datetime | None
    """Until when NetBox may still carry out a request that the client gave up on; another look follows then."""


_CLAIM = text(
    """
    WITH due AS (
        SELECT pool_id, slot, unsure, claimed_until IS NOT NULL AS given_up FROM netbox_records
        WHERE pool_id = :pool_id AND due_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
          AND (CAST(:slot AS bigint) IS NULL OR slot = :slot)
        ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
    )
    UPDATE netbox_records r SET claimed_until = now() + CAST(:claim AS interval), unsure = true,
                                since = CASE WHEN given_up THEN coalesce(r.since, now()) ELSE r.since END
    FROM due WHERE r.pool_id = due.pool_id AND r.slot = due.slot
    RETURNING r.slot, r.claimed_until, r.version, r.since IS NOT NULL AS news, due.unsure, r.netbox_id, r.key
    """
)

# A statement of its own, after the claim: its snapshot must include the changes that the version counts.
_TRUTH = text(
    f"""
    SELECT s.slot AS reported, s.prefix::text AS space,
           CASE WHEN d.released_at IS NOT NULL THEN quarantined.free_at END AS until, d.*
    FROM (SELECT p.id AS pool_id, netbox_record, netbox_release, slot,
                 lastmile_nth_prefix(p.prefix, p.delegated_length, slot) prefix
          FROM pools p, unnest(CAST(:slots AS bigint[])) slot WHERE p.id = :pool_id) s
    LEFT JOIN slots quarantined ON quarantined.pool_id = s.pool_id AND quarantined.slot = s.slot
                               AND quarantined.free_at > now() AND quarantined.free_at < 'infinity'
    LEFT JOIN LATERAL (
        SELECT {COLUMNS} FROM delegations d
        WHERE s.netbox_record = 'prefix' AND d.pool_id = s.pool_id AND d.prefix = s.prefix AND d.slot = s.slot
          AND (d.released_at IS NULL OR quarantined.slot IS NOT NULL AND s.netbox_release = 'deprecate')
        ORDER BY d.released_at IS NOT NULL, d.id DESC LIMIT 1
    ) d ON true
    """
)

# A prefix that has changed meanwhile stays due.
_DONE = text(
    """
    UPDATE netbox_records
    SET netbox_id = :netbox_id, key = :key, unsure = :again, claimed_until = NULL, problem = NULL,
        since = CASE WHEN version > :version THEN since END,
        due_at = CASE WHEN version > :version THEN due_at ELSE least(CAST(:until AS timestamptz),
                      CASE WHEN :again THEN now() + CAST(:late AS interval) END) END
    WHERE pool_id = :pool_id AND slot = :slot AND claimed_until = :claim
    """
)

_GONE = text(
    """
    DELETE FROM netbox_records
    WHERE pool_id = :pool_id AND slot = :slot AND netbox_id IS NULL AND due_at IS NULL AND since IS NULL
    """
)

# After a mere look whose request may still run in NetBox, the row is due as news, so that another look follows.
_PUT_BACK = text(
    """
    UPDATE netbox_records
    SET claimed_until = NULL, unsure = :unsure, since = CASE WHEN :news THEN coalesce(since, now()) ELSE since END,
        problem = :problem, due_at = now() + CAST(:pause AS interval)
    WHERE pool_id = :pool_id AND slot = :slot AND claimed_until = :claim
    """
)

# A new row is unsure: nothing is known of the prefix's record in NetBox.
_AGAIN = text(
    """
    INSERT INTO netbox_records AS r (pool_id, slot, tenant_id, netbox_id, key, unsure)
    SELECT id, :slot, tenant_id, :netbox_id, CAST(:key AS text), true FROM pools
    WHERE id = :pool_id AND mode = 'delegated' FOR KEY SHARE
    ON CONFLICT (pool_id, slot) DO UPDATE
    SET (version, since, due_at) = (SELECT * FROM lastmile_due_again(r)), unsure = r.unsure OR :unsure,
        netbox_id = coalesce(excluded.netbox_id, r.netbox_id), key = coalesce(excluded.key, r.key)
    """
)

_PROBLEM = text("SELECT problem FROM netbox_records WHERE pool_id = :pool_id AND slot = :slot")

_BACKLOG = text(
    """
    SELECT count(*) AS waiting, count(problem) AS refused,
           coalesce(now() - min(coalesce(since, due_at)), interval '0') AS lag,
           (SELECT max(due_at) FROM netbox_records WHERE pool_id = :pool_id AND unsure AND since IS NULL
            AND due_at > now()) AS unsettled
    FROM netbox_records WHERE pool_id = :pool_id AND due_at IS NOT NULL AND (since IS NOT NULL OR due_at <= now())
    """
)


async def backlog(connection: AsyncConnection, pool: BoundPool) -> Backlog:
    """Return how far NetBox is behind the database in this pool."""
    row = (await connection.execute(_BACKLOG, {"pool_id": pool.id})).one()
    return Backlog(waiting=row.waiting, lag=row.lag, refused=row.refused, unsettled_until=row.unsettled)


async def drain(database: Database, netbox: NetBox, pool: BoundPool, *, seconds: float = 5) -> int:
    """Report what is due of this pool, for about `seconds`; return the number of prefixes reported.

    Can be interrupted at any moment. Raises `NetBoxError` where NetBox does not answer or refuses every request.
    """
    end = time.monotonic() + seconds

    async def work() -> int:
        reported = 0
        while time.monotonic() < end and (entries := await _claimed(database, pool)):
            for index, entry in enumerate(entries):
                try:
                    reported += await _report(database, netbox, pool, entry)
                except (NetBoxError, asyncio.CancelledError):
                    for untouched in entries[index + 1 :]:
                        await _put_back(database, pool, untouched, unsure=untouched.unsure)
                    raise
        return reported

    results = await asyncio.gather(*(work() for _ in range(IN_FLIGHT)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return sum(result for result in results if isinstance(result, int))


async def report_again(
    database: Database, netbox: NetBox, pool: BoundPool, slot: int, *, record: NetBoxRecord | None = None
) -> str:
    """Report the prefix of this slot again; return why NetBox refuses it, or an empty text.

    `record` is the slot's record, where it was found under another id than the one noted. A worker that is reporting
    the prefix at this moment reports it once more. Raises `NetBoxError`.
    """
    place = {"pool_id": pool.id, "slot": slot}
    async with database.platform() as connection:
        values = place | {"netbox_id": record and record.id, "key": record and record.key, "unsure": False}
        if (await connection.execute(_AGAIN, values)).rowcount == 0:
            return "its pool has been changed meanwhile: compare again"
    for entry in await _claimed(database, pool, slot):
        await _report(database, netbox, pool, entry)
    async with database.platform() as connection:
        return await connection.scalar(_PROBLEM, place) or ""


async def _claimed(database: Database, pool: BoundPool, slot: int | None = None) -> list[Entry]:
    """Claim what is due. A cancelled caller leaves nothing claimed."""
    claiming = asyncio.create_task(_claim(database, pool, slot))
    try:
        return await asyncio.shield(claiming)
    except asyncio.CancelledError:
        with suppress(SQLAlchemyError, OSError, TimeoutError):  # PostgreSQL does not answer; the claim expires
            for entry in await claiming:
                await _put_back(database, pool, entry, unsure=entry.unsure)
        raise


async def _claim(database: Database, pool: BoundPool, slot: int | None) -> list[Entry]:
    async with database.platform() as connection:
        claim = {"pool_id": pool.id, "slot": slot, "most": CHUNK, "claim": CLAIM}
        claimed = (await connection.execute(_CLAIM, claim)).all()
        slots = [row.slot for row in claimed]
        truth = {row.reported: row for row in await connection.execute(_TRUTH, {"pool_id": pool.id, "slots": slots})}
    return [_entry(row, truth[row.slot]) for row in claimed]


def _entry(claimed: Row[Any], true: Row[Any]) -> Entry:
    expected = None if true.id is None else Stamp.of(Delegation.of(true))
    known = (
        claimed.slot,
        claimed.claimed_until,
        claimed.version,
        claimed.news,
        claimed.unsure,
        claimed.netbox_id,
        claimed.key,
    )
    return Entry(*known, prefix=ip_network(true.space), expected=expected, until=true.until)


async def _report(database: Database, netbox: NetBox, pool: BoundPool, entry: Entry) -> bool:
    """Report one prefix; return False where NetBox refused it, which is retried later. Raises `NetBoxError`."""
    try:
        record = await sync_record(database, netbox, pool, entry)
        await _note(database, pool, entry, record)
    except (
        NetBoxInvalidError,
        KeyTakenError,
        NetBoxTenantMissingError,
        NetBoxNotFoundError,
        PrefixOccupiedError,
    ) as failure:
        await _put_back(database, pool, entry, unsure=True, problem=str(failure), pause=REFUSED)
        return False
    except (AmbiguousWriteError, asyncio.CancelledError):
        await _put_back(database, pool, entry, unsure=True, news=True, pause=UNKNOWN)
        raise
    except NetBoxError:
        await _put_back(database, pool, entry, unsure=entry.unsure)
        raise
    return True


async def _note(database: Database, pool: BoundPool, entry: Entry, record: NetBoxRecord | None) -> None:
    """Note that NetBox has this record now; None: it has none."""
    place = {"pool_id": pool.id, "slot": entry.slot}
    known = {"netbox_id": record and record.id, "key": record and record.key}
    done: dict[str, Any] = {"claim": entry.claimed_until, "version": entry.version, "until": entry.until, "late": LATE}
    done["again"] = entry.unsure and entry.news
    async with database.platform() as connection:
        if (await connection.execute(_DONE, place | known | done)).rowcount == 0:
            nothing = dict.fromkeys(known)
            await connection.execute(_AGAIN, place | nothing | {"unsure": True})
        elif record is None:
            await connection.execute(_GONE, place)


async def _put_back(
    database: Database,
    pool: BoundPool,
    entry: Entry,
    *,
    unsure: bool,
    news: bool = False,
    problem: str | None = None,
    pause: timedelta = timedelta(0),
) -> None:
    place = {"pool_id": pool.id, "slot": entry.slot, "claim": entry.claimed_until}
    values = place | {"unsure": unsure, "news": news, "problem": problem, "pause": pause}
    async with database.platform() as connection:
        await connection.execute(_PUT_BACK, values)
