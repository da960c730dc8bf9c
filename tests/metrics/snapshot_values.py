"""Access to the values of a metrics snapshot in tests."""

from lastmile.telemetry.metrics import SNAPSHOT_METRICS
from lastmile.telemetry.snapshot import Snapshot

__all__ = ["Values", "values"]

Values = dict[tuple[str, ...], float]


def values(snapshot: Snapshot, name: str) -> Values:
    """Return the values of a metric by its labels, in their declared order."""
    labels = next(metric.labels for metric in SNAPSHOT_METRICS if metric.name == name)
    found = [sample for sample in snapshot.samples if sample.name == name]
    assert all(sample.labels.keys() == set(labels) for sample in found), f"{name} has other labels"
    read = {tuple(sample.labels[label] for label in labels): sample.value for sample in found}
    assert len(read) == len(found), f"{name} has one value twice"
    return read
