"""Every dashboard as the text of its file."""

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.lifecycle import lifecycle
from grafana.platform import platform

__all__ = ["dashboards"]


def dashboards() -> dict[str, str]:
    """By the name of the file in `DIRECTORY`."""
    built = [builder.build() for builder in (lifecycle(), platform())]
    for dashboard in built:
        # A link, an annotation and an alert can name a panel by its number, which is to be the same each time.
        for number, panel in enumerate(dashboard.panels or [], start=1):
            panel.id_val = number
    return {f"{made.uid}.json": JSONEncoder(sort_keys=True, indent=2).encode(made) + "\n" for made in built}
