"""The metrics of this process, as `/metrics` shows them, without a scrape."""

from collections.abc import Mapping

from prometheus_client import REGISTRY

__all__ = ["Counted", "value"]


def value(name: str, **labels: str) -> float:
    """Return the value of the sample with these labels; 0 where it does not exist yet."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Counted:
    """The increases of counters since its creation: other tests use the same counters."""

    def __init__(self) -> None:
        self._before = _all()

    def since(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the increases of this metric, by the values of its labels in the order of their names."""
        return {
            labels: now - self._before.get((sample, labels), 0.0)
            for (sample, labels), now in _all().items()
            if sample == name and now != self._before.get((sample, labels), 0.0)
        }


def _all() -> Mapping[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }
