"""The computation, the storage and the look-up of metrics snapshots."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, Table, text
from sqlalchemy.dialects.postgresql import JSONB, insert

from lastmile.db import Database, PlatformConnection, metadata
from lastmile.metrics.counts import compact_counts
from lastmile.metrics.queries import QUERIES
from lastmile.telemetry.metrics import SNAPSHOT_METRICS
from lastmile.telemetry.snapshot import Sample, Snapshot, StoredSnapshot

__all__ = ["RETAINED", "compute_snapshot", "metrics_snapshots", "read_newest_snapshot", "store_snapshot"]

RETAINED = 12
"""The number of retained snapshots: one hour, so that an operator can read the values at the time of an alert."""

metrics_snapshots = Table(
    "metrics_snapshots",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("taken_at", DateTime(timezone=True), nullable=False),
    Column("samples", JSONB, nullable=False),
)

_NAMES = {metric.name for metric in SNAPSHOT_METRICS}

_NEWEST = text(
    """
    SELECT taken_at, samples, greatest(now() - taken_at, interval '0') AS age
    FROM metrics_snapshots ORDER BY taken_at DESC, id DESC LIMIT 1
    """
)
_DELETE_OLD = text(
    """
    DELETE FROM metrics_snapshots
    WHERE id NOT IN (SELECT id FROM metrics_snapshots ORDER BY taken_at DESC, id DESC LIMIT :retained)
    """
)


async def compute_snapshot(database: Database, waiting: Mapping[str, str] | None = None) -> Snapshot:
    """Compute the current values of the snapshot metrics. Concurrent computations are safe.

    `waiting` has the tenants of the parked runs by run id.
    """
    runs = waiting or {}
    waits = {"waiting_runs": list(runs), "waiting_tenants": list(runs.values())}
    await compact_counts(database)
    async with database.platform() as connection:
        taken_at = await connection.scalar(text("SELECT now()"))
        assert isinstance(taken_at, datetime)
        samples = [Sample("lastmile_snapshot_timestamp_seconds", {}, taken_at.timestamp())]
        for query in QUERIES:
            samples += await _run_query(connection, query, waits)
    return Snapshot(taken_at, tuple(samples))


async def store_snapshot(database: Database, snapshot: Snapshot) -> None:
    """Store the snapshot, and delete the oldest ones."""
    samples = [[sample.name, sample.labels, sample.value] for sample in snapshot.samples]
    async with database.platform() as connection:
        await connection.execute(insert(metrics_snapshots).values(taken_at=snapshot.taken_at, samples=samples))
        await connection.execute(_DELETE_OLD, {"retained": RETAINED})


async def read_newest_snapshot(database: Database) -> StoredSnapshot | None:
    """Return the newest snapshot; None before the first one."""
    async with database.platform() as connection:
        row = (await connection.execute(_NEWEST)).one_or_none()
    if row is None:
        return None
    return StoredSnapshot(Snapshot(row.taken_at, tuple(Sample(*sample) for sample in row.samples)), row.age)


async def _run_query(connection: PlatformConnection, query: str, values: dict[str, Any]) -> list[Sample]:
    """Return a sample for each value in each row."""
    rows = (await connection.execute(text(query), values)).mappings()
    return [
        Sample(name, {label: row[label] for label in row if label not in _NAMES}, float(value))
        for row in rows
        for name, value in row.items()
        if name in _NAMES and value is not None
    ]
