"""The dashboard `ipv6-lifecycle`: the states of prefixes, the rates of their changes, and leaks."""

from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard, gauge, piechart, stat, timeseries
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.piechart import PieChartLegendValues, PieChartType

from grafana.parts import (
    DATASOURCE,
    RATE,
    SHARED,
    TENANT,
    WIDTH,
    board,
    gauge_panel,
    graph,
    levels,
    number_panel,
    query,
    share_levels,
)

__all__ = ["lifecycle"]

THIRD, HALF, QUARTER = WIDTH // 3, WIDTH // 2, WIDTH // 4

STATES = {
    "pending": "super-light-blue",
    "allocated": "yellow",
    "active": "green",
    "suspended": "purple",
    "revoking": "orange",
    "revoked": "text",
    "failed": "red",
}
# Every worker shows the same values of the metrics snapshot, so the query takes their maximum, not their sum.
BY_STATE = f"sum by (state) (max by (tenant, state) (ipv6_lifecycle_state_total{{{TENANT}}}))"
HOLDING = 'state!~"pending|revoked|failed"'


def lifecycle() -> dashboard.Dashboard:
    return (
        board(
            "ipv6-lifecycle",
            "IPv6 Lifecycle Management",
            "The delegated prefixes, from the pool to the subscriber and back.",
            alerts="IPv6.*",
        )
        .with_row(dashboard.Row("State Overview"))
        .with_panel(_distribution())
        .with_panel(_utilisation())
        .with_panel(_pools())
        .with_row(dashboard.Row("Operational Metrics"))
        .with_panel(
            _rate(
                "Allocation",
                "Allocations per minute, and failed allocations per minute.",
                "ipv6_allocation_duration_seconds",
                *("failed", 'step="allocate_ip_address", outcome="failed"'),
            )
        )
        .with_panel(
            _rate(
                "Revocation",
                "Revocations per minute, and those whose session end no NAS has confirmed.",
                "ipv6_revocation_duration_seconds",
                *("unconfirmed", 'step="revoke_ipv6_lifecycle", outcome=~"warned|failed"'),
            )
        )
        .with_row(dashboard.Row("Health Indicators"))
        .with_panel(_leaks())
        .with_panel(_netbox())
        .with_panel(_p95("Allocation", "ipv6_allocation_duration_seconds"))
        .with_panel(_p95("Revocation", "ipv6_revocation_duration_seconds"))
        .with_row(dashboard.Row("Timeline"))
        .with_panel(_timeline())
    )


def _distribution() -> piechart.Panel:
    panel = (
        piechart.Panel()
        .title("IPv6 Prefix State Distribution")
        .description("Delegations by state. Revoked delegations count until the cleanup deletes them.")
        .datasource(DATASOURCE)
        .with_target(query(BY_STATE, "{{state}}", now=True))
        .pie_type(PieChartType.DONUT)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .legend(
            piechart.PieChartLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.RIGHT)
            .show_legend(True)
            .values([PieChartLegendValues.VALUE])
        )
        .span(THIRD)
        .height(8)
    )
    return _coloured(panel)


def _utilisation() -> gauge.Panel:
    active = f'sum(max by (tenant) (ipv6_lifecycle_state_total{{state="active", {TENANT}}}))'
    held = f"sum(max by (tenant, state) (ipv6_lifecycle_state_total{{{HOLDING}, {TENANT}}}))"
    return gauge_panel(
        "IPv6 Utilization Rate",
        "The share of active delegations among those that hold a prefix. A low rate means that prefixes are unused.",
        query(f"100 * {active} / ({held} > 0)", "active", now=True),
        width=THIRD,
    ).thresholds(share_levels(50, 80))


def _pools() -> gauge.Panel:
    used = f'max by (tenant, pool) (ipv6_pool_utilization_percent{{purpose=~"ipv6.*", {SHARED}}})'
    return gauge_panel(
        "IPv6 Pool Utilization",
        "The share of prefixes that are held or in quarantine, for the eight fullest pools.",
        query(f"topk(8, {used})", "{{tenant}} {{pool}}", now=True),
        width=THIRD,
    ).thresholds(levels("green", (70, "yellow"), (85, "red")))


def _rate(what: str, description: str, histogram: str, bad: str, selector: str) -> timeseries.Panel:
    return graph(
        f"IPv6 {what} Rate",
        description,
        query(f"sum by (tenant) (rate({histogram}_count{{{TENANT}}}{RATE})) * 60", "{{tenant}}"),
        query(
            f"sum by (tenant) (rate(lastmile_steps_total{{{selector}, {TENANT}}}{RATE})) * 60", f"{{{{tenant}}}}: {bad}"
        ),
        unit=units.CountsPerMinute,
        width=HALF,
    )


def _leaks() -> stat.Panel:
    return number_panel(
        "IPv6 Prefix Leaks",
        "Delegations that have been allocated for over a day, but are neither active nor acknowledged. Must be 0.",
        query(f"sum(max by (tenant) (ipv6_prefix_leak_total{{{TENANT}}}))", "leaks", now=True),
        unit=units.NoUnit,
        width=QUARTER,
    ).thresholds(levels("green", (1, "red")))


def _netbox() -> stat.Panel:
    share = f"max by (tenant) (ipv6_netbox_integration_percent{{{TENANT}}})"
    meant = f"max by (tenant) (lastmile_netbox_delegations{{{TENANT}}})"
    return (
        number_panel(
            "NetBox Integration Rate",
            "The share of delegations that NetBox shows, among those whose pool is recorded in NetBox.",
            query(f"sum({share} * {meant}) / sum({meant})", "in NetBox", now=True),
            unit=units.Percent,
            width=QUARTER,
        )
        .no_value("no pool in NetBox")
        .thresholds(share_levels(80, 95))
    )


def _p95(what: str, histogram: str) -> stat.Panel:
    ever = f"sum by (le) ({histogram}_bucket{{{TENANT}}})"
    lately = f"sum by (le) (increase({histogram}_bucket{{{TENANT}}}[$__range]))"
    # Without a value in that time, the quantile is NaN, and the comparison removes it.
    expr = f"histogram_quantile(0.95, {lately}) >= 0 or histogram_quantile(0.95, {ever}) >= 0"
    return (
        number_panel(
            f"IPv6 {what} Duration p95",
            "95 of 100 took at most this time, in the selected period; without values, since the start of the workers.",
            query(expr, "p95", now=True),
            unit=units.Seconds,
            width=QUARTER,
        )
        .no_value("none")
        .thresholds(levels("green", (5, "yellow"), (10, "red")))
    )


def _timeline() -> timeseries.Panel:
    quarantined = f'sum(max by (tenant, pool) (ipv6_quarantined_prefixes{{purpose=~"ipv6.*", {SHARED}}}))'
    panel = graph(
        "IPv6 Lifecycle State Timeline",
        "Delegations by state, and prefixes in quarantine. If a transitional state grows, delegations are stuck.",
        query(BY_STATE, "{{state}}"),
        query(quarantined, "in quarantine"),
        unit=units.NoUnit,
        width=WIDTH,
    )
    stacked = common_builders.StackingConfig().mode(common.StackingMode.NORMAL)
    beside = [
        models.DynamicConfigValue("custom.stacking", {"mode": "none"}),
        models.DynamicConfigValue("custom.fillOpacity", 0),
        models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "blue"}),
    ]
    return _coloured(panel.stacking(stacked).fill_opacity(40)).override_by_name("in quarantine", beside)


P = TypeVar("P", piechart.Panel, timeseries.Panel)


def _coloured(panel: P) -> P:
    for state, color in STATES.items():
        fixed = models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
        panel.override_by_name(state, [fixed])
    return panel
