"""Figures as a test wants to read them."""

from lastmile.telemetry.metrics import SNAPSHOT_METRICS
from lastmile.telemetry.snapshot import Snapshot

__all__ = ["Values", "values"]

Values = dict[tuple[str, ...], float]


def values(snapshot: Snapshot, name: str) -> Values:
    """A figure's values by its labels, in the order in which those are declared."""
    labels = next(metric.labels for metric in SNAPSHOT_METRICS if metric.name == name)
    found = [sample for sample in snapshot.samples if sample.name == name]
    assert all(sample.labels.keys() == set(labels) for sample in found), f"{name} has other labels"
    read = {tuple(sample.labels[label] for label in labels): sample.value for sample in found}
    assert len(read) == len(found), f"{name} has one value twice"
    return read
