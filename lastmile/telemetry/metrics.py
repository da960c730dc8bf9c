"""Every metric of Lastmile, with its name, labels and help text.

There are two kinds of metrics:

- Each process counts its own events. Queries add up the workers with `sum`.
- A `SnapshotMetric` is computed once from the database and stored in the metrics snapshot. Every worker shows the same
  value: queries use `max by (…)`, never `sum` over instances.

The names with the prefix `ipv6_` come from the requirements. Some gauges among them end in `_total`, which Prometheus
does not recommend. A label has few values (tenants, pools, steps, NASes, kinds), never a subscriber, an order or a
prefix.
"""

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from lastmile.contract.orders import Operation

__all__ = [
    "ALLOCATION",
    "API_REFUSALS",
    "API_REQUESTS",
    "NETBOX_ERRORS",
    "NETBOX_SECONDS",
    "ORDERS",
    "ORDER_SECONDS_TAKEN",
    "OUTCOMES",
    "RADIUS_REQUESTS",
    "RETRIES",
    "REVOCATION",
    "SNAPSHOT_METRICS",
    "STEPS",
    "STEP_SECONDS_TAKEN",
    "SnapshotMetric",
    "start_api_at_zero",
    "start_at_zero",
]

STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ORDER_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

API_REQUESTS = Histogram(
    "lastmile_api_request_duration_seconds",
    "The duration of a request to the API, until the last byte of its answer.",
    ["method", "route", "status", "route_class"],
    buckets=REQUEST_SECONDS,
)
"""`route`: the path with the names of its parameters; `other` for a path that is none of the API's. `route_class`:
`read` or `write`; `wait` if the request waited for an order (`Prefer: wait`); `stream` for server-sent events; `page`
for the reference, the problems and the health checks; `other`."""
API_REFUSALS = Counter(
    "lastmile_api_refusals", "Requests to the API that were refused to their caller.", ["tenant", "reason"]
)
"""`reason`: `token` (401), `permission` (403) or `rate` (429). `tenant`: `unknown` for a caller without a valid token,
`*` for a caller for all tenants."""
ALLOCATION = Histogram(
    "ipv6_allocation_duration_seconds",
    "The duration of the allocation of an order's IPv6 prefixes, including retries and NetBox.",
    ["tenant"],
    buckets=STEP_SECONDS,
)
REVOCATION = Histogram(
    "ipv6_revocation_duration_seconds",
    "The duration of the revocation of a subscriber's IPv6 prefixes, including retries and the disconnect.",
    ["tenant"],
    buckets=STEP_SECONDS,
)
ORDERS = Counter("lastmile_orders", "Orders that ended.", ["operation", "tenant", "outcome"])
"""`outcome`: the status of the order's result. Two kinds of rolled-back orders have their own outcome, since neither is
a failure of Lastmile: `cancelled` (by the caller) and `refused` (the order itself was wrong, activities/refusals.py).
"""
ORDER_SECONDS_TAKEN = Histogram(
    "lastmile_order_duration_seconds",
    "The duration of an order, from its first step to its end.",
    ["operation", "tenant"],
    buckets=ORDER_SECONDS,
)
STEPS = Counter("lastmile_steps", "Steps of ended orders.", ["step", "tenant", "outcome"])
"""`outcome`: done, skipped, warned, failed or undone, as in the order's result. Each step counts once, when its order
ends."""
STEP_SECONDS_TAKEN = Histogram(
    "lastmile_step_duration_seconds",
    "The duration of one attempt of a step or of its undo.",
    ["step"],
    buckets=STEP_SECONDS,
)
"""`step`: the name of the activity; an undo is a separate activity."""
RETRIES = Counter("lastmile_step_retries", "Failed attempts that are retried.", ["step", "kind"])
"""`kind`: the type of the failure."""
RADIUS_REQUESTS = Counter(
    "lastmile_radius_requests", "Disconnect-Requests and CoA-Requests by outcome.", ["nas", "kind", "outcome"]
)
"""`kind`: disconnect or coa. `nas`: the name of the NAS. `outcome`: ack (acknowledged, or the session to disconnect is
over), nak (refused), timeout (no reply), error (the NAS is unreachable, or its reply is not signed with the secret)."""
NETBOX_SECONDS = Histogram(
    "lastmile_netbox_request_duration_seconds",
    "The duration of one request to NetBox.",
    ["method"],
    buckets=REQUEST_SECONDS,
)
NETBOX_ERRORS = Counter("lastmile_netbox_errors", "Requests to NetBox that failed.", ["method", "kind"])
"""`kind`: the type of the failure (ipam/netbox/errors.py). `NetBoxNotFoundError` and `NetBoxExhaustedError` raise no
alert. `NetBoxNotReadyError` also counts each check that finds something missing in NetBox.
"""

OUTCOMES = ("completed", "degraded", "rolled_back", "partly_rolled_back", "abandoned", "cancelled", "refused")


def start_api_at_zero() -> None:
    """Export a failed request with the value 0, so that the rule about them finds a series."""
    for status in (500, 503):
        API_REQUESTS.labels("other", "other", status, "other")


def start_at_zero(tenant: str) -> None:
    """Export the counters of a tenant's orders with the value 0.

    Prometheus computes no rate for a counter that appears with the value 1: the first failure after a restart would
    raise no alert.
    """
    for histogram in (ALLOCATION, REVOCATION):
        histogram.labels(tenant)
    for operation in Operation:
        ORDER_SECONDS_TAKEN.labels(operation, tenant)
        for outcome in OUTCOMES:
            ORDERS.labels(operation, tenant, outcome)


@dataclass(frozen=True, slots=True)
class SnapshotMetric:
    """A gauge of the metrics snapshot."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()


SNAPSHOT_METRICS = (
    SnapshotMetric(
        "ipv6_lifecycle_state_total",
        "Delegations by state; revoked delegations until the cleanup deletes them.",
        ("tenant", "state"),
    ),
    SnapshotMetric("ipv6_active_percent", "Active delegations, in percent of those that hold a prefix.", ("tenant",)),
    SnapshotMetric(
        "ipv6_pool_utilization_percent",
        "Prefixes of a pool that are held or in quarantine, in percent.",
        ("pool", "tenant", "purpose"),
    ),
    SnapshotMetric(
        "ipv6_pool_free_prefixes", "Prefixes of a pool that are free for the next order.", ("pool", "tenant", "purpose")
    ),
    SnapshotMetric("ipv6_quarantined_prefixes", "Prefixes of a pool in quarantine.", ("pool", "tenant", "purpose")),
    SnapshotMetric(
        "ipv6_netbox_integration_percent",
        "Delegations that NetBox shows, in percent of those with a prefix of a pool that is recorded in NetBox.",
        ("tenant",),
    ),
    SnapshotMetric(
        "lastmile_netbox_delegations",
        "Delegations that hold a prefix of a pool that is recorded in NetBox.",
        ("tenant",),
    ),
    SnapshotMetric(
        "ipv6_prefix_leak_total",
        "Delegations that have been allocated for over a day, but are neither active nor acknowledged.",
        ("tenant",),
    ),
    SnapshotMetric(
        "ipv6_oldest_stuck_seconds", "The age of the oldest delegation in a transitional state.", ("tenant", "state")
    ),
    SnapshotMetric(
        "lastmile_oldest_open_order_seconds",
        "The age of the oldest open order whose run is not parked. After an overlap, the time since the overlap's end.",
        ("tenant",),
    ),
    SnapshotMetric(
        "lastmile_accepted_orders_waiting",
        "Accepted orders that wait to be started, also those that wait for another order of the subscriber.",
        ("tenant",),
    ),
    SnapshotMetric(
        "lastmile_oldest_accepted_order_seconds",
        "The age of the oldest accepted order that waits for no other order and is not started.",
        ("tenant",),
    ),
    SnapshotMetric(
        "lastmile_hook_events_kept",
        "Events by webhook that are kept, since no order could be made of them.",
        ("tenant",),
    ),
    SnapshotMetric(
        "lastmile_pending_device_calls",
        "ONUs and CPEs that have yet to follow their controllers.",
        ("tenant", "kind"),
    ),
    SnapshotMetric(
        "lastmile_oldest_pending_device_call_seconds",
        "How long the longest waiting ONU or CPE has been waiting to follow its controller.",
        ("tenant", "kind"),
    ),
    SnapshotMetric("lastmile_suspended_lines", "Suspended lines by mode.", ("tenant", "mode")),
    SnapshotMetric(
        "lastmile_overdue_suspension_seconds",
        "The time since the oldest suspension should have ended by itself; 0 while none is overdue.",
        ("tenant",),
    ),
    SnapshotMetric(
        "lastmile_pool_renumbering_lines",
        "Lines of a pool that is being renumbered: renumbered, failed, in_flight, or to_start.",
        ("pool", "tenant", "standing"),
    ),
    SnapshotMetric(
        "lastmile_pool_renumbering_paused_seconds",
        "The time since an operator has paused the renumbering of the pool; 0 while it is not paused.",
        ("pool", "tenant"),
    ),
    SnapshotMetric(
        "lastmile_pool_renumbering_stopped",
        "1 while the last renumbering of the pool has stopped by itself, since too many of its orders failed.",
        ("pool", "tenant"),
    ),
    SnapshotMetric("lastmile_attention_runs", "Parked runs, which wait for an operator's decision.", ("tenant",)),
    SnapshotMetric(
        "lastmile_netbox_outbox_waiting", "Prefixes whose last change is not yet in NetBox.", ("pool", "tenant")
    ),
    SnapshotMetric("lastmile_netbox_outbox_refused", "Prefixes whose last change NetBox refuses.", ("pool", "tenant")),
    SnapshotMetric(
        "lastmile_netbox_outbox_lag_seconds",
        "The age of the oldest change that is not yet in NetBox.",
        ("pool", "tenant"),
    ),
    SnapshotMetric(
        "lastmile_netbox_pool_full",
        "1 while NetBox has no further block or prefix for the pool.",
        ("pool", "tenant"),
    ),
    SnapshotMetric(
        "lastmile_block_maintenance_age_seconds",
        "Time since a worker last checked a delegated pool's blocks in NetBox.",
        ("pool", "tenant"),
    ),
    SnapshotMetric(
        "lastmile_audit_violations",
        "Findings of the last audit that no operator has acknowledged, by invariant.",
        ("invariant",),
    ),
    SnapshotMetric(
        "lastmile_audit_acknowledged", "Findings that an operator has acknowledged, by invariant.", ("invariant",)
    ),
    SnapshotMetric("lastmile_audit_timestamp_seconds", "The time at which the last audit ended, as Unix time."),
    SnapshotMetric("lastmile_schedule_present", "0 while the schedule is missing in Temporal.", ("schedule",)),
    SnapshotMetric("lastmile_schedule_paused", "1 while the schedule is paused.", ("schedule",)),
    SnapshotMetric(
        "lastmile_schedule_last_success_timestamp_seconds",
        "The time at which the schedule's last successful run ended, as Unix time.",
        ("schedule",),
    ),
    SnapshotMetric(
        "lastmile_schedule_missed",
        "The number of due times at which no run started, since the schedule was created.",
        ("schedule",),
    ),
    SnapshotMetric(
        "lastmile_snapshot_timestamp_seconds", "The time at which the metrics snapshot was taken, as Unix time."
    ),
)
"""The metrics of the snapshot. Its age, `lastmile_snapshot_age_seconds`, is computed at each scrape: +Inf before the
first snapshot.

The label `tenant` is empty for a pool that serves every tenant. A tenant without prefixes has no percentages. A tenant
without prefixes of a pool that is recorded in NetBox has no percentage of NetBox.
"""
