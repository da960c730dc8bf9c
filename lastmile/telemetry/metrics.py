"""Every metric of Lastmile: its name, labels and meaning, once.

There are two kinds. A process counts the events that it sees itself, and Prometheus adds the workers up. A `Figure` is
computed once from the database, kept in the metrics snapshot, and shown by every worker alike: in queries,
`max by (…)`, never `sum` over instances.

The names that begin with `ipv6_` are the seed's. They keep `_total` on gauges, which Prometheus does not recommend.
Labels have few values: tenants, pools, steps, NASes, kinds; never a subscriber, an order or a prefix.
"""

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from lastmile.contract.orders import Operation

__all__ = [
    "ALLOCATION",
    "FIGURES",
    "NETBOX_ERRORS",
    "NETBOX_SECONDS",
    "ORDERS",
    "ORDER_SECONDS_TAKEN",
    "OUTCOMES",
    "RADIUS_REQUESTS",
    "RETRIES",
    "REVOCATION",
    "STEPS",
    "STEP_SECONDS_TAKEN",
    "Figure",
    "start_at_zero",
]

STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ORDER_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

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
"""`outcome`: the status of the order's result. An order that was rolled back counts as `cancelled` where its caller
cancelled it, and as `refused` where the order itself was wrong (activities/refusals.py): neither is a failure of
Lastmile."""
ORDER_SECONDS_TAKEN = Histogram(
    "lastmile_order_duration_seconds",
    "From an order's first step to its end.",
    ["operation", "tenant"],
    buckets=ORDER_SECONDS,
)
STEPS = Counter("lastmile_steps", "Steps of the orders that ended.", ["step", "tenant", "outcome"])
"""`outcome`: done, skipped, warned, failed, undone: as in the order's result, each step once, when its order ends."""
STEP_SECONDS_TAKEN = Histogram(
    "lastmile_step_duration_seconds", "One attempt at a step or at its undo.", ["step"], buckets=STEP_SECONDS
)
"""`step`: the activity; an undo is an activity with its own name."""
RETRIES = Counter("lastmile_step_retries", "Attempts that failed and are retried.", ["step", "kind"])
"""`kind`: the type of the failure."""
RADIUS_REQUESTS = Counter(
    "lastmile_radius_requests", "Disconnect- and CoA-Requests, by their outcome.", ["nas", "kind", "outcome"]
)
"""`kind`: disconnect, coa. `outcome`: ack (of a disconnect also: the session is over), nak, timeout, error (no process
listens, or the answer is not signed with the secret). `nas`: its name."""
NETBOX_SECONDS = Histogram(
    "lastmile_netbox_request_duration_seconds", "One request to NetBox.", ["method"], buckets=REQUEST_SECONDS
)
NETBOX_ERRORS = Counter("lastmile_netbox_errors", "Requests to NetBox that failed.", ["method", "kind"])
"""`kind`: the type of the failure (ipam/netbox/errors.py). `NetBoxNotFoundError` and `NetBoxExhaustedError` raise no
alert. `NetBoxNotReadyError` also counts each check that finds something missing in NetBox.
"""

OUTCOMES = ("completed", "degraded", "rolled_back", "partly_rolled_back", "abandoned", "cancelled", "refused")


def start_at_zero(tenant: str) -> None:
    """Show the counters of a tenant's orders at 0.

    Prometheus sees a counter rise from 0 to 1, but not a counter that appears with the value 1: the first failure after
    a restart would be in no rate and in no alert.
    """
    for histogram in (ALLOCATION, REVOCATION):
        histogram.labels(tenant)
    for operation in Operation:
        ORDER_SECONDS_TAKEN.labels(operation, tenant)
        for outcome in OUTCOMES:
            ORDERS.labels(operation, tenant, outcome)


@dataclass(frozen=True, slots=True)
class Figure:
    """A gauge of the snapshot."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()


FIGURES = (
    Figure(
        "ipv6_lifecycle_state_total",
        "Delegations by state; revoked delegations until the cleanup deletes them.",
        ("tenant", "state"),
    ),
    Figure("ipv6_active_percent", "Active delegations, in percent of those that hold a prefix.", ("tenant",)),
    Figure(
        "ipv6_pool_utilization_percent",
        "Prefixes of a pool that are held or in quarantine, in percent.",
        ("pool", "tenant", "purpose"),
    ),
    Figure(
        "ipv6_pool_free_prefixes", "Prefixes of a pool that are free for the next order.", ("pool", "tenant", "purpose")
    ),
    Figure("ipv6_quarantined_prefixes", "Prefixes of a pool in quarantine.", ("pool", "tenant", "purpose")),
    Figure(
        "ipv6_netbox_integration_percent",
        "Delegations that NetBox shows, in percent of those with a prefix of a pool that is kept in NetBox.",
        ("tenant",),
    ),
    Figure(
        "lastmile_netbox_delegations",
        "Delegations that hold a prefix of a pool that is kept in NetBox.",
        ("tenant",),
    ),
    Figure(
        "ipv6_prefix_leak_total",
        "Delegations that have been allocated for over a day, are not active and are not acknowledged.",
        ("tenant",),
    ),
    Figure("ipv6_oldest_stuck_seconds", "Age of the oldest delegation in a passing state.", ("tenant", "state")),
    Figure(
        "lastmile_oldest_open_order_seconds",
        "Age of the oldest open order whose run is not parked.",
        ("tenant",),
    ),
    Figure("lastmile_attention_runs", "Parked runs: they wait for an operator's decision.", ("tenant",)),
    Figure("lastmile_netbox_outbox_waiting", "Prefixes whose last change NetBox lacks.", ("pool", "tenant")),
    Figure("lastmile_netbox_outbox_refused", "Those of them that NetBox refuses.", ("pool", "tenant")),
    Figure("lastmile_netbox_outbox_lag_seconds", "Age of the oldest such change.", ("pool", "tenant")),
    Figure(
        "lastmile_netbox_pool_full",
        "1 from when NetBox has no further block or prefix for the pool until the pool gets one.",
        ("pool", "tenant"),
    ),
    Figure(
        "lastmile_keeper_age_seconds",
        "Time since a worker last checked a delegated pool's blocks in NetBox.",
        ("pool", "tenant"),
    ),
    Figure(
        "lastmile_audit_violations",
        "Findings of the last audit that no operator has acknowledged, by invariant.",
        ("invariant",),
    ),
    Figure("lastmile_audit_acknowledged", "Findings that an operator has acknowledged, by invariant.", ("invariant",)),
    Figure("lastmile_audit_timestamp_seconds", "When the last audit ended; Unix time."),
    Figure("lastmile_schedule_present", "0 while the schedule is missing in Temporal.", ("schedule",)),
    Figure("lastmile_schedule_paused", "1 while the schedule is paused.", ("schedule",)),
    Figure(
        "lastmile_schedule_last_success_timestamp_seconds",
        "When the schedule's last successful run ended.",
        ("schedule",),
    ),
    Figure(
        "lastmile_schedule_missed",
        "How often the schedule's time came and no run started, since it was made.",
        ("schedule",),
    ),
    Figure("lastmile_snapshot_timestamp_seconds", "When these figures were taken; Unix time."),
)
"""`lastmile_snapshot_age_seconds`, the age of all figures, is computed at each scrape: +Inf before the first snapshot.

`tenant` is empty where a pool serves every tenant. A tenant that holds no prefix has no percentages, and a tenant that
holds none of a pool in NetBox has none of NetBox.
"""
