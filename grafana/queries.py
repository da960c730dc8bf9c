"""The queries of a dashboard's panels as Prometheus gets them: what Grafana substitutes, substituted."""

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
    """What the panel says where the query finds nothing; empty where it always finds something."""

    def name(self, labels: Mapping[str, str]) -> str:
        """What Grafana calls a series. Raises `KeyError` where the legend has a label that is not there."""
        return re.sub(r"{{(\w+)}}", lambda label: labels[label[1]], self.legend.replace("__auto", ""))

    def expression(self, *, tenants: tuple[str, ...] = (), span: str = "1h", rate: str = "1m") -> str:
        """The query for the chosen tenants (none: *All*), with durations for `$__range` and `$__rate_interval`."""
        # As Grafana writes what was chosen into a query for Prometheus: each escaped, several as alternatives.
        chosen = [re.escape(tenant).replace("\\", "\\\\") for tenant in tenants]
        tenant = ".*" if not chosen else chosen[0] if len(chosen) == 1 else f"({'|'.join(chosen)})"
        return self.expr.replace("$tenant", tenant).replace("$__rate_interval", rate).replace("$__range", span)


def panel_queries(dashboard: Path) -> Iterator[PanelQuery]:
    """Every query of a dashboard's JSON, in the order of its panels."""
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel.get("targets", ()):
            field = panel["fieldConfig"]["defaults"]
            unit, nothing = field.get("unit", "none"), field.get("noValue", "")
            yield PanelQuery(panel["title"], target["expr"], target["legendFormat"], unit, nothing)
