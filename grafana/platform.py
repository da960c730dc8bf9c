"""The dashboard `lastmile-platform`: orders, the API, steps, pools, RADIUS, NetBox, maintenance and Temporal."""

from grafana_foundation_sdk.builders import dashboard, stat
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from grafana.parts import RATE, SHARED, TENANT, WIDTH, board, graph, levels, number_panel, p95, query, share_levels
from grafana.temporal import temporal

__all__ = ["platform"]

THIRD, HALF, QUARTER = WIDTH // 3, WIDTH // 2, WIDTH // 4

Panels = list[Builder[models.Panel]]


def platform() -> dashboard.Dashboard:
    made = board(
        "lastmile-platform",
        "Lastmile Platform",
        "Orders, their steps, the API, and the systems that they depend on.",
        alerts=".*",
    )
    rows = {
        "Orders": _orders(),
        "API": _api(),
        "Steps": _steps(),
        "Pools": _pools(),
        "RADIUS": _radius(),
        "NetBox": _netbox(),
        "Maintenance": _maintenance(),
        "Temporal": temporal(),
    }
    for title, panels in rows.items():
        made.with_row(dashboard.Row(title))
        for panel in panels:
            made.with_panel(panel)
    return made


def _orders() -> Panels:
    provisions = f'operation="provision", {TENANT}'
    good = f'{provisions}, outcome=~"completed|degraded"'
    meant = f'{provisions}, outcome!~"cancelled|refused"'
    return [
        number_panel(
            "Provisioning success",
            "The share of provision orders that ended with a working line, without cancelled and refused orders.",
            query(
                f"100 * sum(increase(lastmile_orders_total{{{good}}}[$__range]))"
                f" / (sum(increase(lastmile_orders_total{{{meant}}}[$__range])) > 0)",
                "success",
                now=True,
            ),
            unit=units.Percent,
            width=QUARTER,
        )
        .no_value("none")
        .thresholds(share_levels(95, 99)),
        _count(
            "Parked runs",
            "Runs that wait for an operator's decision. `lastmile attention` lists them.",
            f"sum(max by (tenant) (lastmile_attention_runs{{{TENANT}}}))",
        ),
        number_panel(
            "Oldest open order",
            "The age of the oldest order that is open and not parked.",
            query(f"max(lastmile_oldest_open_order_seconds{{{TENANT}}})", "oldest", now=True),
            unit=units.Seconds,
            width=QUARTER,
        ).thresholds(levels("green", (600, "yellow"), (3600, "red"))),
        _count("Workers", "Workers that Prometheus reaches.", 'count(up{job="lastmile"} == 1) or vector(0)').thresholds(
            levels("text", (0, "red"), (1, "green"))
        ),
        graph(
            "Orders by outcome",
            "Ended orders per minute.",
            query(
                f"sum by (operation, outcome) (rate(lastmile_orders_total{{{TENANT}}}{RATE})) * 60",
                "{{operation}}: {{outcome}}",
            ),
            unit=units.CountsPerMinute,
            width=THIRD,
        ),
        graph(
            "Orders by type",
            "Ended orders per minute, whatever their outcome.",
            query(f"sum by (operation) (rate(lastmile_orders_total{{{TENANT}}}{RATE})) * 60", "{{operation}}"),
            unit=units.CountsPerMinute,
            width=THIRD,
        ),
        graph(
            "Order duration",
            "The duration of orders, from the first step to the end.",
            *(
                query(
                    f"histogram_quantile({quantile}, sum by (operation, le) "
                    f"(rate(lastmile_order_duration_seconds_bucket{{{TENANT}}}{RATE})))",
                    f"{{{{operation}}}}: p{quantile * 100:.0f}",
                )
                for quantile in (0.5, 0.95, 0.99)
            ),
            unit=units.Seconds,
            width=THIRD,
        ),
        graph(
            "Suspended lines",
            "Suspended lines by mode.",
            query(f"sum by (mode) (max by (tenant, mode) (lastmile_suspended_lines{{{TENANT}}}))", "{{mode}}"),
            unit=units.Short,
            width=THIRD,
        ),
        graph(
            "Overdue suspensions",
            "The time since the oldest suspension should have ended by itself.",
            query(f"max by (tenant) (lastmile_overdue_suspension_seconds{{{TENANT}}})", "{{tenant}}"),
            unit=units.Seconds,
            width=THIRD,
        ),
        graph(
            "Devices that wait",
            "ONUs and CPEs that have yet to follow their controllers. `lastmile devices` lists them.",
            query(f"sum by (kind) (max by (tenant, kind) (lastmile_pending_device_calls{{{TENANT}}}))", "{{kind}}"),
            unit=units.Short,
            width=THIRD,
        ),
        graph(
            "Renumberings of pools",
            "Lines of pools that are being renumbered, by what has become of their order.",
            query(
                "sum by (pool, standing) "
                f"(max by (pool, tenant, standing) (lastmile_pool_renumbering_lines{{{TENANT}}}))",
                "{{pool}}: {{standing}}",
            ),
            unit=units.Short,
            width=WIDTH,
        ),
    ]


def _api() -> Panels:
    return [
        graph(
            "API requests",
            "Requests per minute by the class of the route and the status of the answer.",
            query(
                f"sum by (route_class, status) (rate(lastmile_api_request_duration_seconds_count{RATE})) * 60",
                "{{route_class}}: {{status}}",
            ),
            unit=units.RequestsPerMinute,
            width=THIRD,
        ),
        graph(
            "API latency p95",
            "The duration of a request. `wait` and `stream` last as long as the caller asks for.",
            query(p95("lastmile_api_request_duration_seconds", "route_class"), "{{route_class}}"),
            unit=units.Seconds,
            width=THIRD,
        ),
        graph(
            "API refusals",
            "Refused requests per minute: an invalid token, a missing permission, a rate limit. `*`: the caller works "
            "for all tenants.",
            query(
                f"sum by (tenant, reason) (rate(lastmile_api_refusals_total{RATE})) * 60",
                "{{tenant}} {{reason}}",
            ),
            unit=units.RequestsPerMinute,
            width=THIRD,
        ),
    ]


def _steps() -> Panels:
    return [
        graph(
            "Steps that went wrong",
            "Steps per minute that failed, ended with a warning or were undone.",
            query(
                "sum by (step, outcome) "
                f'(rate(lastmile_steps_total{{outcome=~"failed|warned|undone", {TENANT}}}{RATE})) * 60',
                "{{step}}: {{outcome}}",
            ),
            unit=units.CountsPerMinute,
            width=THIRD,
        ),
        graph(
            "Retries",
            "Failed attempts per minute that are retried, by the type of the failure.",
            query(f"sum by (step, kind) (rate(lastmile_step_retries_total{RATE})) * 60", "{{step}}: {{kind}}"),
            unit=units.CountsPerMinute,
            width=THIRD,
        ),
        graph(
            "Step duration p95",
            "The duration of one attempt.",
            query(p95("lastmile_step_duration_seconds", "step"), "{{step}}"),
            unit=units.Seconds,
            width=THIRD,
        ),
    ]


def _pools() -> Panels:
    return [
        graph(
            title,
            description,
            query(f"max by (tenant, pool) ({name}{{{SHARED}}})", "{{tenant}} {{pool}}"),
            unit=unit,
            width=THIRD,
        )
        for title, description, name, unit in (
            (
                "Pool utilization",
                "The share of prefixes that are held or in quarantine.",
                "ipv6_pool_utilization_percent",
                units.Percent,
            ),
            ("Free prefixes", "Prefixes that are free for the next orders.", "ipv6_pool_free_prefixes", units.Short),
            (
                "In quarantine",
                "Released prefixes that no other subscriber can get yet.",
                "ipv6_quarantined_prefixes",
                units.Short,
            ),
        )
    ]


def _radius() -> Panels:
    return [
        graph(
            "Disconnect and CoA requests",
            "Requests per minute by outcome.",
            query(
                f"sum by (nas, kind, outcome) (rate(lastmile_radius_requests_total{RATE})) * 60",
                "{{nas}}: {{kind}} {{outcome}}",
            ),
            unit=units.RequestsPerMinute,
            width=HALF,
        ),
        graph(
            "Requests without an answer",
            "The share of all requests to a NAS.",
            query(
                f'100 * sum by (nas) (rate(lastmile_radius_requests_total{{outcome=~"timeout|error"}}{RATE}))'
                f" / sum by (nas) (rate(lastmile_radius_requests_total{RATE}))",
                "{{nas}}",
            ),
            unit=units.Percent,
            width=HALF,
        ).max(100),
    ]


def _netbox() -> Panels:
    return [
        graph(
            "NetBox latency p95",
            "The duration of one request.",
            query(p95("lastmile_netbox_request_duration_seconds", "method"), "{{method}}"),
            unit=units.Seconds,
            width=QUARTER,
        ),
        graph(
            "NetBox errors",
            "Failed requests to NetBox per minute.",
            query(f"sum by (method, kind) (rate(lastmile_netbox_errors_total{RATE})) * 60 > 0", "{{method}}: {{kind}}"),
            unit=units.RequestsPerMinute,
            width=QUARTER,
        ),
        graph(
            "NetBox outbox",
            "Prefixes whose last change is not yet in NetBox, and those whose change NetBox refuses.",
            query(
                f"max by (tenant, pool) (lastmile_netbox_outbox_waiting{{{SHARED}}})", "{{tenant}} {{pool}}: waiting"
            ),
            query(
                f"max by (tenant, pool) (lastmile_netbox_outbox_refused{{{SHARED}}})", "{{tenant}} {{pool}}: refused"
            ),
            unit=units.Short,
            width=QUARTER,
        ),
        graph(
            "Outbox lag",
            "The age of the oldest change that is not yet in NetBox.",
            query(f"max by (tenant, pool) (lastmile_netbox_outbox_lag_seconds{{{SHARED}}})", "{{tenant}} {{pool}}"),
            unit=units.Seconds,
            width=QUARTER,
        ),
        graph(
            "Pools full in NetBox",
            "1 while NetBox has no further block or prefix for the pool.",
            query(f"max by (tenant, pool) (lastmile_netbox_pool_full{{{SHARED}}})", "{{tenant}} {{pool}}"),
            unit=units.NoUnit,
            width=HALF,
        ),
        graph(
            "Age of the last block check",
            "The time since a worker last checked the blocks of each delegated pool.",
            query(f"max by (tenant, pool) (lastmile_block_maintenance_age_seconds{{{SHARED}}})", "{{tenant}} {{pool}}"),
            unit=units.Seconds,
            width=HALF,
        ),
    ]


def _maintenance() -> Panels:
    return [
        _count(
            "Audit violations",
            "Findings of the last audit without acknowledgement. `lastmile audit` lists them.",
            "sum(max by (invariant) (lastmile_audit_violations))",
        ),
        number_panel(
            "Age of the metrics snapshot",
            "The age of the oldest metrics snapshot that a worker shows.",
            query("max(lastmile_snapshot_age_seconds)", "age", now=True),
            unit=units.Seconds,
            width=QUARTER,
        ).thresholds(levels("green", (420, "yellow"), (900, "red"))),
        _count("Schedules paused", "", "sum(max by (schedule) (lastmile_schedule_paused))"),
        _count(
            "Schedules missed",
            "Due times at which no run started.",
            "sum(max by (schedule) (lastmile_schedule_missed))",
        ),
        graph(
            "Audit violations by invariant",
            "Findings of the last audit by invariant, and the sum of acknowledged findings.",
            query("max by (invariant) (lastmile_audit_violations)", "{{invariant}}"),
            query("sum(max by (invariant) (lastmile_audit_acknowledged))", "acknowledged"),
            unit=units.NoUnit,
            width=THIRD,
        ),
        graph(
            "Since the last success",
            "The time since the last successful run of each schedule.",
            query("time() - max by (schedule) (lastmile_schedule_last_success_timestamp_seconds)", "{{schedule}}"),
            unit=units.Seconds,
            width=THIRD,
        ),
        graph(
            "Oldest delegation in a transitional state",
            "The age of the oldest delegation in each transitional state.",
            query(f"max by (state) (ipv6_oldest_stuck_seconds{{{TENANT}}})", "{{state}}"),
            unit=units.Seconds,
            width=THIRD,
        ),
    ]


def _count(title: str, description: str, expr: str) -> stat.Panel:
    """Return a panel with a number that should be 0."""
    return number_panel(title, description, query(expr, now=True), unit=units.NoUnit, width=QUARTER).thresholds(
        levels("green", (1, "red"))
    )
