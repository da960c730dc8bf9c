"""Every metric of Lastmile: its name, labels and meaning, once.

Two kinds. What a process sees for itself is counted in it: Prometheus adds the workers up. What the database knows of
all is a `Figure`: it is taken by one, stored as a snapshot, and shown by every worker alike, so that the figures of
three workers are not three times the truth (in queries: `max by (…)`, never `sum` over instances).

The names that begin with `ipv6_` are the seed's, and keep what Prometheus would not recommend today: `_total` on what
is no counter. Labels hold what is few: tenants, pools, steps, NASes, kinds; never a subscriber, an order or a prefix.
"""

from dataclasses import dataclass

from prometheus_client import Counter, Histogram

__all__ = [
    "ALLOCATION",
    "FIGURES",
    "NETBOX_ERRORS",
    "NETBOX_SECONDS",
    "OPERATIONS",
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
    "How long it took to allocate an order's IPv6 prefixes, retries and NetBox included.",
    ["tenant"],
    buckets=STEP_SECONDS,
)
REVOCATION = Histogram(
    "ipv6_revocation_duration_seconds",
    "How long it took to revoke a subscriber's IPv6 prefixes, retries and the Disconnect included.",
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
    "lastmile_step_duration_seconds", "One attempt at a step, or at taking one back.", ["step"], buckets=STEP_SECONDS
)
"""`step`: the activity; what takes a step back has a name of its own."""
RETRIES = Counter("lastmile_step_retries", "Those of these attempts that failed and are made again.", ["step", "kind"])
"""`kind`: the type of the failure."""
RADIUS_REQUESTS = Counter(
    "lastmile_radius_requests", "Disconnect- and CoA-Requests, by what became of them.", ["nas", "kind", "outcome"]
)
"""`kind`: disconnect, coa. `outcome`: ack (and, of a disconnect, that there is no such session any more), nak, timeout,
error (nobody listens, or who answers does not know the secret). `nas`: its name."""
NETBOX_SECONDS = Histogram(
    "lastmile_netbox_request_duration_seconds", "One request to NetBox.", ["method"], buckets=REQUEST_SECONDS
)
NETBOX_ERRORS = Counter("lastmile_netbox_errors", "Requests that NetBox did not answer as asked.", ["method", "kind"])
"""`kind`: the type of the failure (ipam/netbox/errors.py). `NotFound` and `Exhausted` are no reason for an alert."""

OPERATIONS = ("provision", "deprovision")
OUTCOMES = ("completed", "degraded", "rolled_back", "partly_rolled_back", "abandoned", "cancelled", "refused")


def start_at_zero(tenant: str) -> None:
    """Show what is counted of the tenant's orders before there is any.

    Prometheus sees a counter rise from 0 to 1, and not one that is born as 1: each worker's first order of a kind would
    be in no rate, and the first failure after a restart in no alert.
    """
    for histogram in (ALLOCATION, REVOCATION):
        histogram.labels(tenant)
    for operation in OPERATIONS:
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
        "ipv6_lifecycle_state_total", "Delegations by state; revoked ones until they are deleted.", ("tenant", "state")
    ),
    Figure("ipv6_active_percent", "Active delegations, of those that hold a prefix.", ("tenant",)),
    Figure(
        "ipv6_pool_utilization_percent",
        "Prefixes of a pool that nobody can get now: held, or in quarantine.",
        ("pool", "tenant", "purpose"),
    ),
    Figure("ipv6_pool_free_prefixes", "Prefixes of a pool that the next order can get.", ("pool", "tenant", "purpose")),
    Figure("ipv6_quarantined_prefixes", "Prefixes of a pool that rest.", ("pool", "tenant", "purpose")),
    Figure(
        "ipv6_netbox_integration_percent",
        "Delegations that NetBox shows, of those that hold a prefix of a pool that is kept in NetBox.",
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
    Figure(
        "ipv6_oldest_stuck_seconds", "How long the oldest delegation has been in a passing state.", ("tenant", "state")
    ),
    Figure(
        "lastmile_oldest_open_order_seconds",
        "How long the oldest open order has been open whose run does not wait for a person.",
        ("tenant",),
    ),
    Figure("lastmile_attention_runs", "Runs that wait for a person's decision.", ("tenant",)),
    Figure("lastmile_netbox_outbox_waiting", "Prefixes that NetBox has yet to be told of.", ("pool", "tenant")),
    Figure("lastmile_netbox_outbox_refused", "Those of them that NetBox would not take.", ("pool", "tenant")),
    Figure("lastmile_netbox_outbox_lag_seconds", "How long the one that has waited longest has.", ("pool", "tenant")),
    Figure(
        "lastmile_netbox_pool_full",
        "1 since NetBox had no further block, or prefix, for the pool, until one is got.",
        ("pool", "tenant"),
    ),
    Figure(
        "lastmile_keeper_age_seconds",
        "How long ago a delegated pool's blocks were last looked after in NetBox.",
        ("pool", "tenant"),
    ),
    Figure(
        "lastmile_audit_violations",
        "Findings of the last audit that no operator has acknowledged, by invariant.",
        ("invariant",),
    ),
    Figure("lastmile_audit_acknowledged", "Findings that an operator has acknowledged, by invariant.", ("invariant",)),
    Figure("lastmile_audit_timestamp_seconds", "When the last audit ended; Unix time."),
    Figure("lastmile_schedule_present", "0 while the schedule is not there.", ("schedule",)),
    Figure("lastmile_schedule_paused", "1 while the schedule is paused.", ("schedule",)),
    Figure(
        "lastmile_schedule_last_success_timestamp_seconds", "When its last run that succeeded ended.", ("schedule",)
    ),
    Figure("lastmile_schedule_missed", "How often its time came and no run started, ever.", ("schedule",)),
    Figure("lastmile_snapshot_timestamp_seconds", "When these figures were taken; Unix time."),
)
"""And, computed at each scrape, `lastmile_snapshot_age_seconds`: how old the rest is; +Inf before the first one.

`tenant` is empty where a pool serves every tenant. A tenant that holds no prefix has no percentages, and a tenant that
holds none of a pool in NetBox has none of NetBox.
"""
