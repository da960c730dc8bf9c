"""The generation of the dashboard files."""

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.lifecycle import lifecycle
from grafana.platform import platform

__all__ = ["dashboards"]


def dashboards() -> dict[str, str]:
    """Return the content of each dashboard file by its name in `DIRECTORY`."""
    built = [builder.build() for builder in (lifecycle(), platform())]
    for dashboard in built:
        # Links, annotations and alerts refer to a panel by its number, so the numbers must be the same each time.
        for number, panel in enumerate(dashboard.panels or [], start=1):
            panel.id_val = number
    return {f"{made.uid}.json": JSONEncoder(sort_keys=True, indent=2).encode(made) + "\n" for made in built}
