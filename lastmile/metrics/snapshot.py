"""Taking a snapshot, keeping it, and finding the newest one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, Table, text
from sqlalchemy.dialects.postgresql import JSONB, insert

from lastmile.db import Database, PlatformConnection, metadata
from lastmile.metrics.counts import fold
from lastmile.metrics.queries import QUERIES
from lastmile.telemetry.metrics import FIGURES
from lastmile.telemetry.snapshot import Newest, Sample, Snapshot

__all__ = ["KEPT", "keep", "measure", "metrics_snapshots", "newest"]

KEPT = 12
"""An hour of them, for who wants to know what was shown when an alert fired."""

metrics_snapshots = Table(
    "metrics_snapshots",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("taken_at", DateTime(timezone=True), nullable=False),
    Column("samples", JSONB, nullable=False),
)

_NAMES = {figure.name for figure in FIGURES}

_NEWEST = text(
    """
    SELECT taken_at, samples, greatest(now() - taken_at, interval '0') AS age
    FROM metrics_snapshots ORDER BY taken_at DESC, id DESC LIMIT 1
    """
)
_FORGET = text(
    """
    DELETE FROM metrics_snapshots
    WHERE id NOT IN (SELECT id FROM metrics_snapshots ORDER BY taken_at DESC, id DESC LIMIT :kept)
    """
)


async def measure(database: Database, waiting: Mapping[str, str] | None = None) -> Snapshot:
    """What the database knows, now. Two at once do no harm.

    `waiting`: the tenants of the runs that wait for a person, by run id.
    """
    runs = waiting or {}
    waits = {"waiting_runs": list(runs), "waiting_tenants": list(runs.values())}
    await fold(database)
    async with database.platform() as connection:
        taken_at = await connection.scalar(text("SELECT now()"))
        assert isinstance(taken_at, datetime)
        samples = [Sample("lastmile_snapshot_timestamp_seconds", {}, taken_at.timestamp())]
        for query in QUERIES:
            samples += await _ask(connection, query, waits)
    return Snapshot(taken_at, tuple(samples))


async def keep(database: Database, snapshot: Snapshot) -> None:
    """Show it from now on, unless a newer one is there; the oldest are forgotten."""
    samples = [[sample.name, sample.labels, sample.value] for sample in snapshot.samples]
    async with database.platform() as connection:
        await connection.execute(insert(metrics_snapshots).values(taken_at=snapshot.taken_at, samples=samples))
        await connection.execute(_FORGET, {"kept": KEPT})


async def newest(database: Database) -> Newest | None:
    """The snapshot that was taken last; None before the first one."""
    async with database.platform() as connection:
        row = (await connection.execute(_NEWEST)).one_or_none()
    if row is None:
        return None
    return Newest(Snapshot(row.taken_at, tuple(Sample(*sample) for sample in row.samples)), row.age)


async def _ask(connection: PlatformConnection, query: str, values: dict[str, Any]) -> list[Sample]:
    """A sample for each value in each row."""
    rows = (await connection.execute(text(query), values)).mappings()
    return [
        Sample(name, {label: row[label] for label in row if label not in _NAMES}, float(value))
        for row in rows
        for name, value in row.items()
        if name in _NAMES and value is not None
    ]
