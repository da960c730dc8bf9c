"""The parts of both dashboards: the data source, the variable `$tenant`, and the types of panels."""

from string import ascii_uppercase

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, gauge, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as models

__all__ = [
    "DATASOURCE",
    "RATE",
    "SHARED",
    "TENANT",
    "WIDTH",
    "board",
    "gauge_panel",
    "graph",
    "levels",
    "number_panel",
    "p95",
    "query",
    "share_levels",
]

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""A variable of the dashboard, so that the dashboard works in every Grafana."""
TENANT = 'tenant=~"$tenant"'
"""The selector of the chosen tenants; *All* is `.*`."""
SHARED = 'tenant=~"$tenant|"'
"""The same selector, with the series that have no tenant, such as those of pools for every tenant."""
RATE = "[$__rate_interval]"
"""Grafana's interval for rates: four scrapes or the width of a point, whichever is longer."""

WIDTH = 24
_HEIGHT = 8


def board(uid: str, title: str, description: str, alerts: str) -> dashboard.Dashboard:
    """Return an empty dashboard of 24 hours, refreshed every 30 seconds.

    Its graphs show the alerts whose names match `alerts`.
    """
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["lastmile"])
        .time("now-24h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("tenant")
            .label("Tenant")
            .datasource(DATASOURCE)
            .query("label_values(ipv6_lifecycle_state_total, tenant)")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Alerts")
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color("red")
            .expr(f'ALERTS{{alertstate="firing", alertname=~"{alerts}", {SHARED}}}')
        )
        .link(
            dashboard.DashboardLink("Lastmile")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["lastmile"])
            .include_vars(True)
            .keep_time(True)
        )
    )


def query(expr: str, legend: str = "", *, now: bool = False) -> prometheus.Dataquery:
    """Return a query for a series over time or, with `now`, for the current value."""
    made = prometheus.Dataquery().ref_id("A").expr(expr).legend_format(legend or "__auto")
    return made.instant() if now else made.range()


def levels(base: str, *steps: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Return thresholds: the colour `base`, and from each value on another colour."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in [(None, base), *steps]])
    )


def share_levels(yellow: float, green: float) -> dashboard.ThresholdsConfig:
    """Return thresholds of a percentage that should be high. Without data, the panel has no colour."""
    return levels("text", (0, "red"), (yellow, "yellow"), (green, "green"))


def number_panel(title: str, description: str, target: prometheus.Dataquery, *, unit: str, width: int) -> stat.Panel:
    """Return a panel with one coloured number."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(target)
        .unit(unit)
        .reduce_options(_last())
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.NONE)
        .span(width)
        .height(_HEIGHT // 2)
    )


def gauge_panel(title: str, description: str, target: prometheus.Dataquery, *, width: int) -> gauge.Panel:
    """Return a gauge of a percentage."""
    return (
        gauge.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(target)
        .unit(units.Percent)
        .min(0)
        .max(100)
        .reduce_options(_last())
        .span(width)
        .height(_HEIGHT)
    )


def graph(title: str, description: str, *targets: prometheus.Dataquery, unit: str, width: int) -> timeseries.Panel:
    """Return a panel with lines over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(0)
        .legend(_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .span(width)
        .height(_HEIGHT)
    )
    for name, target in zip(ascii_uppercase, targets, strict=False):
        panel.with_target(target.ref_id(name))
    return panel


def p95(histogram: str, *by: str) -> str:
    """Return the query for the 95th percentile over time."""
    return f"histogram_quantile(0.95, sum by ({', '.join([*by, 'le'])}) (rate({histogram}_bucket{RATE})))"


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"])


def _legend() -> Builder[common.VizLegendOptions]:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
