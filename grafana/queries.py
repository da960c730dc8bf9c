"""The queries of a dashboard's panels, with Grafana's variables substituted, as Prometheus receives them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DIRECTORY", "PanelQuery", "panel_queries"]

DIRECTORY = Path(__file__).parent / "dashboards"


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of one panel."""

    panel: str
    expr: str
    legend: str
    unit: str
    nothing: str
    """The text of the panel if the query finds nothing; empty if the query always finds a value."""

    def name(self, labels: Mapping[str, str]) -> str:
        """Return Grafana's name of a series.

        Raises:
            KeyError: the legend has a label that the series lacks.
        """
        return re.sub(r"{{(\w+)}}", lambda label: labels[label[1]], self.legend.replace("__auto", ""))

    def expression(self, *, tenants: tuple[str, ...] = (), span: str = "1h", rate: str = "1m") -> str:
        """Return the query for the tenants (none: *All*), with durations for `$__range` and `$__rate_interval`."""
        # Grafana escapes each chosen value, and joins several values as alternatives.
        chosen = [re.escape(tenant).replace("\\", "\\\\") for tenant in tenants]
        tenant = ".*" if not chosen else chosen[0] if len(chosen) == 1 else f"({'|'.join(chosen)})"
        return self.expr.replace("$tenant", tenant).replace("$__rate_interval", rate).replace("$__range", span)


def panel_queries(dashboard: Path) -> Iterator[PanelQuery]:
    """Yield every query of a dashboard's JSON file, in the order of its panels."""
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel.get("targets", ()):
            field = panel["fieldConfig"]["defaults"]
            unit, nothing = field.get("unit", "none"), field.get("noValue", "")
            yield PanelQuery(panel["title"], target["expr"], target["legendFormat"], unit, nothing)
