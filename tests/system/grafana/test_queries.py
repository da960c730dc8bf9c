"""Every query of every panel and every rule, asked of a real Prometheus that has watched a real worker for a day."""

import re
from contextlib import suppress
from dataclasses import dataclass
from math import nan
from typing import Any

import pytest

from grafana.queries import DIRECTORY, PanelQuery, panel_queries
from lastmile.contract import Operation
from lastmile.devstack.prometheus import Sample
from lastmile.telemetry.metrics import OUTCOMES
from tests.support.processes import until
from tests.system.grafana.isp import Isp

pytestmark = [
    pytest.mark.prometheus_required,
    pytest.mark.freeradius_required,
    pytest.mark.timeout(900),  # the first of them waits for the day to end
]


@dataclass(frozen=True)
class Between:
    """Equals each number from `low` to `high`, for durations and rates."""

    low: float
    high: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and self.low <= other <= self.high


SOME = Between(1e-9, 1e9)
SECONDS = Between(1e-9, 60)

STATES = {"pending": 0, "allocated": 1, "active": 7, "suspended": 0, "revoking": 0, "revoked": 4, "failed": 0}

LIFECYCLE: dict[str, dict[str, Any]] = {
    "IPv6 Prefix State Distribution": STATES,
    "IPv6 Utilization Rate": {"active": 100 * 7 / 8},
    "IPv6 Pool Utilization": {"acme home": 100 * 7 / 256, "acme metro": 100 * 3 / 65536, "other tiny": 100},
    "IPv6 Allocation Rate": {"acme": SOME, "other": SOME, "other: failed": SOME},
    "IPv6 Revocation Rate": {"acme": SOME, "other": 0, "acme: unconfirmed": SOME},
    "IPv6 Prefix Leaks": {"leaks": 1},
    # Two of three in metro: NetBox has not heard of the last one. The others are in pools of the database.
    "NetBox Integration Rate": {"in NetBox": 100 * 2 / 3},
    "IPv6 Allocation Duration p95": {"p95": SECONDS},
    "IPv6 Revocation Duration p95": {"p95": SECONDS},
    "IPv6 Lifecycle State Timeline": STATES | {"in quarantine": 4},
}
OF_OTHER: dict[str, dict[str, Any]] = {
    "IPv6 Prefix State Distribution": dict.fromkeys(STATES, 0) | {"active": 2},
    "IPv6 Utilization Rate": {"active": 100},
    "IPv6 Pool Utilization": {"other tiny": 100},
    "IPv6 Allocation Rate": {"other": SOME, "other: failed": SOME},
    "IPv6 Revocation Rate": {"other": 0},
    "IPv6 Prefix Leaks": {"leaks": 0},
    "NetBox Integration Rate": {},  # none of its pools is in NetBox
    "IPv6 Allocation Duration p95": {"p95": SECONDS},
    "IPv6 Revocation Duration p95": {},
    "IPv6 Lifecycle State Timeline": dict.fromkeys(STATES, 0) | {"active": 2, "in quarantine": 0},
}
POOLS = ("acme home", "acme metro", "other tiny")
PLATFORM: dict[str, dict[str, Any]] = {
    "Provisioning success": {"success": 100 * 12 / 20},
    "Parked runs": {"": 1},
    "Oldest open order": {"oldest": 0},
    "Workers": {"": 2},
    "Orders by outcome": {
        **{f"{operation}: {outcome}": 0 for operation in Operation for outcome in OUTCOMES},
        "provision: completed": SOME,
        "provision: rolled_back": SOME,
        "deprovision: completed": SOME,
        "deprovision: degraded": SOME,
    },
    "Orders by type": dict.fromkeys(Operation, 0) | {"provision": SOME, "deprovision": SOME},
    "Order duration": {
        # A histogram without an observation has no quantile.
        f"{operation}: p{n}": SECONDS if operation in ("provision", "deprovision") else nan
        for operation in Operation
        for n in (50, 95, 99)
    },
    "Suspended lines": {"block": 0, "walled_garden": 0, "slow": 0},
    "Overdue suspensions": {"acme": 0, "other": 0},
    "Devices that wait": {"onu": 0, "cpe": 0},
    "Renumberings of pools": {
        "home: to_start": SOME,
        **{f"home: {standing}": 0 for standing in ("renumbered", "failed", "in_flight")},
    },
    "Steps that went wrong": {
        "allocate_ip_address: failed": SOME,
        "revoke_ipv6_lifecycle: warned": SOME,
        **{f"create_{what}: undone": SOME for what in ("customer", "subscriber", "network_profile", "radius_account")},
    },
    "Retries": {"create_billing_service: ProgrammingError": SOME},
    "Pool utilization": LIFECYCLE["IPv6 Pool Utilization"],
    "Free prefixes": dict(zip(POOLS, (256 - 7, 65536 - 3, 0), strict=True)),
    "In quarantine": dict(zip(POOLS, (4, 0, 0), strict=True)),
    "Disconnect and CoA requests": {"bng-1: disconnect ack": SOME, "bng-1: disconnect timeout": SOME},
    "Requests without an answer": {"bng-1": Between(40, 80)},
    "NetBox outbox": {"acme metro: waiting": 1, "acme metro: refused": 0},
    "Outbox lag": {"acme metro": Between(1e-9, 300)},
    "Pools full in NetBox": {"acme metro": 0},
    "Age of the last block check": {"acme metro": Between(0, 300)},
    "Audit violations": {"": 1},
    "Age of the metrics snapshot": {"age": Between(0, 300)},
    "Schedules paused": {"": 0},
    "Schedules missed": {"": 0},
    "Since the last success": dict.fromkeys(("audit", "cleanup", "metrics", "resumption"), Between(0, 300)),
    "Oldest delegation in a transitional state": {
        **dict.fromkeys(("pending", "revoking", "revoked", "failed"), 0),
        "allocated": Between(90_000, 90_300),
    },
    "Waiting for a worker": {"workflow tasks": SECONDS, "activities": SECONDS},
    "Free slots": dict.fromkeys(("ActivityWorker", "LocalActivityWorker", "WorkflowWorker"), Between(1, 128)),
    "Runs in memory": {"runs": Between(0, 4000)},
    "Workflow tasks that failed": {"Unheard-of": SOME},
}
OPEN = {
    "API requests": "every class and status",
    "API latency p95": "every class",
    "API refusals": "only of callers without a token",
    "Step duration p95": "every activity of an order",
    "NetBox latency p95": "every method that was used",
    "NetBox errors": "a first look at what is not there, too",
    "Audit violations by invariant": "every invariant",
    "Requests to Temporal": "every kind of request that a worker makes",
    "Requests that failed": "none does",
}
"""Panels whose series are checked elsewhere, with the reason."""


async def shown(isp: Isp, dashboard: str, *tenants: str) -> dict[str, dict[str, float]]:
    """Every panel's series by their legends, as Grafana shows them."""
    panels: dict[str, dict[str, float]] = {}
    for query in panel_queries(DIRECTORY / f"{dashboard}.json"):
        # The whole day, for rates too: what happened only once a day is to be seen.
        samples = await isp.prometheus.query(query.expression(tenants=tenants, span="1h", rate="1h"), at=isp.at)
        series = {legend(query, sample): sample.value for sample in samples}
        assert len(series) == len(samples), f"{query.panel}: one legend for two series"
        panels.setdefault(query.panel, {}).update(series)
    return panels


def legend(query: PanelQuery, sample: Sample) -> str:
    """The series differ in the labels that the query separates."""
    assert set(re.findall(r"{{(\w+)}}", query.legend)) == set(sample.labels), f"{query.panel}: {sample.labels}"
    return query.name(sample.labels)


async def test_prefix_panels_show_the_expected_values(isp: Isp) -> None:
    assert await shown(isp, "ipv6-lifecycle") == approximately(LIFECYCLE)


async def test_prefix_panels_of_one_tenant_show_its_values(isp: Isp) -> None:
    assert await shown(isp, "ipv6-lifecycle", "other") == approximately(OF_OTHER)


async def test_prefix_panels_of_several_tenants_show_their_values(isp: Isp) -> None:
    assert await shown(isp, "ipv6-lifecycle", "acme", "other") == approximately(LIFECYCLE)


async def test_platform_panels_show_the_expected_values(isp: Isp) -> None:
    panels = await shown(isp, "lastmile-platform")
    assert panels.keys() == PLATFORM.keys() | OPEN.keys()
    assert {panel: panels[panel] for panel in PLATFORM} == approximately(PLATFORM)


async def test_platform_panels_separate_series_by_label(isp: Isp) -> None:
    panels = await shown(isp, "lastmile-platform")
    assert panels["Step duration p95"].keys() >= {"open_order", "allocate_ip_address", "revoke_ipv6_lifecycle"}
    assert panels["NetBox latency p95"]["POST"] == SECONDS
    assert panels["NetBox errors"]["POST: NetBoxUnreachableError"] == SOME
    assert panels["Audit violations by invariant"].pop("acknowledged") == 0
    assert sum(panels["Audit violations by invariant"].values()) == panels["Audit violations"][""]
    assert panels["Requests to Temporal"]["RespondWorkflowTaskCompleted"] == SOME
    assert panels["Requests that failed"] == {}
    assert panels["API requests"]["read: 401"] == panels["API requests"]["write: 401"] == SOME
    assert panels["API latency p95"]["read"] == SECONDS
    assert panels["API refusals"] == {"unknown token": SOME}


def approximately(panels: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    def near(value: Any) -> Any:
        return value if isinstance(value, Between) else pytest.approx(value, nan_ok=True)

    return {panel: {name: near(value) for name, value in series.items()} for panel, series in panels.items()}


async def test_every_rule_is_evaluated_without_an_error(isp: Isp) -> None:
    rules = await isp.prometheus.rules()
    assert len(rules) > 30
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


async def test_every_series_of_the_rules_exists(isp: Isp) -> None:
    """A name or a label that is wrong makes an alert that never fires."""
    missing = []
    for rule in await isp.prometheus.rules():
        for selector in re.findall(r"\b(?:ipv6_|lastmile[_:]|temporal_|up\b)[\w:]*(?:{[^}]*})?", rule["query"]):
            if not await isp.prometheus.query(selector, at=isp.at):
                missing.append((rule["name"], selector))
    assert not missing


async def test_expected_alerts_are_raised(isp: Isp) -> None:
    """Return the firing and pending alerts, with the labels that identify their subject."""
    pool = {"pool": "tiny", "tenant": "other", "purpose": "ipv6_pd"}
    critical, warning = {"severity": "critical"}, {"severity": "warning"}
    expected = [
        {"alertname": "IPv6PrefixLeak", "tenant": "acme", **critical},
        {"alertname": "IPv6PoolNearExhaustion", **pool, **warning},
        {"alertname": "IPv6PoolExhausted", **pool, **critical},
        {"alertname": "LastmileProvisioningFailing", **critical},
        {"alertname": "LastmileProvisioningFailing", **warning},
        {"alertname": "LastmileRunParked", "tenant": "acme", **warning},
        {"alertname": "LastmileOrdersDegraded", "tenant": "acme", **warning},
        {"alertname": "LastmileRunCannotGoOn", "workflow_type": "Unheard-of", **critical},
        {"alertname": "LastmileDisconnectsFailing", "nas": "bng-1", **warning},
        {"alertname": "LastmileNetBoxErrors", **warning},
        {"alertname": "LastmileAuditViolation", "invariant": "incomplete", **critical},
    ]
    wanted = sorted(sorted(labels.items()) for labels in expected)

    seen: list[list[tuple[str, str]]] = []

    async def all_raised() -> bool:
        seen[:] = await raised(isp)
        return seen == wanted

    with suppress(TimeoutError):  # rules are evaluated one after the other
        await until(all_raised)
    assert seen == wanted


async def raised(isp: Isp) -> list[list[tuple[str, str]]]:
    """The labels of every alert that fires, or waits for its time."""
    return sorted(
        sorted((name, value) for name, value in alert["labels"].items() if name not in ("instance", "job"))
        for rule in await isp.prometheus.rules()
        for alert in rule.get("alerts", ())
    )
