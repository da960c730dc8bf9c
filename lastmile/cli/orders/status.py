"""`lastmile status`: a subscriber and its running order, for a person on the phone with them."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from lastmile.cli.connections import Temporal, load_settings, open_database, pick_tenant
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, facts, mark, print_json, table, when
from lastmile.client.connection import TemporalUnreachableError
from lastmile.client.scheduled_orders import ScheduledOrder
from lastmile.contract import Progress, RunStatus
from lastmile.fields.durations import duration
from lastmile.fields.unsafe import escape
from lastmile.services.overview import Overview, overview
from lastmile.settings import Settings
from lastmile.subscribers.errors import UnknownSubscriberError

__all__ = ["status"]

# A run whose step hangs answers when the SDK ends its workflow task, after eight seconds.
ANSWER_SECONDS = 10
UNANSWERED = (TemporalUnreachableError, RPCError, WorkflowQueryFailedError, TimeoutError)
_SHOWN = 20


async def status(subscriber: str, *, tenant: str | None, password: bool, as_json: bool) -> Exit:
    """Everything about one subscriber. Raises `UnknownSubscriberError`."""
    settings = load_settings()
    async with open_database(settings) as database:
        tenant = await pick_tenant(database, tenant)
        async with database.tenant(tenant) as connection:
            found = await overview(connection, tenant, subscriber, password=password)
    seen = await _in_temporal(settings, tenant, subscriber)
    if not found.known and not seen.order and not seen.scheduled:
        words = f"Tenant {tenant} has no subscriber {subscriber}, and never had: check the reference. {seen.trouble}"
        raise UnknownSubscriberError(words.rstrip())
    if as_json:
        run = seen.run
        shown = {
            "run": run.model_dump(mode="json") if run else None,
            "run_unknown": "" if run else seen.trouble,
            "run_waits": seen.trouble if run else "",
            "scheduled": [order.as_json() for order in seen.scheduled],
        }
        print_json(found.model_dump() | shown)
    else:
        for part in _parts(found, seen):
            console.print(part)
    return Exit.DONE


@dataclass
class Seen:
    """What Temporal says about a subscriber."""

    order: str = ""
    """The order that has not ended, in words."""
    run: Progress | None = None
    """Where that order stands."""
    trouble: str = ""
    """What is in its way, or why that is not known."""
    scheduled: list[ScheduledOrder] = field(default_factory=list)


async def _in_temporal(settings: Settings, tenant: str, subscriber: str) -> Seen:
    seen = Seen()
    try:
        temporal = await Temporal.connect(settings)
        seen.order = await temporal.open_run(tenant, subscriber)
        if seen.order and (lack := await temporal.lack_of_workers()):
            seen.trouble = f"{seen.order} has been started and waits. {lack}"
        elif seen.order:
            async with asyncio.timeout(ANSWER_SECONDS):
                progress = await temporal.orders.progress(tenant, subscriber)
                seen.trouble = await temporal.tried_again(tenant, subscriber)
            seen.run = progress if progress and progress.status is not RunStatus.ENDED else None
    except UNANSWERED as failure:
        unknown = f"Where {seen.order} stands" if seen.order else "Whether an order is running or scheduled"
        seen.trouble = f"{unknown} is not known: {_words(failure)}"
        return seen
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            seen.scheduled = await temporal.orders.scheduled.of_subscriber(tenant, subscriber)
    except UNANSWERED as failure:
        seen.trouble = f"{seen.trouble} Whether an order is scheduled is not known: {_words(failure)}".lstrip()
    return seen


def _words(failure: Exception) -> str:
    return str(failure) or f"Temporal did not answer within {ANSWER_SECONDS} s"


def _parts(found: Overview, seen: Seen) -> Iterator[RenderableType]:
    """What needs a person first, then what is, then what was."""
    if seen.trouble:
        yield Text(escape(seen.trouble), style="yellow")
    if seen.run is not None:
        yield from _running(seen.run, found)
    if seen.scheduled:
        yield table(
            "Scheduled orders",
            ("starts", "order", "operation", "paused", "schedule"),
            [
                (when(one.at), one.order_id, one.operation, "in Temporal" if one.paused else "", one.schedule)
                for one in seen.scheduled
            ],
            spare=("schedule",),
        )
    yield _who(found)
    if not found.known:
        return
    if found.addresses or found.quarantine:
        yield _addresses(found)
    if found.sessions:
        yield table(
            "Online",
            ("NAS", "session", "since", "calling from", "IPv4", "IPv6 prefix"),
            [
                (s["nas"], s["session"], when(s["since"]), s["calling_station"], s["ipv4_address"], s["ipv6_prefix"])
                for s in found.sessions
            ],
            spare=("calling from",),
        )
    if found.devices:
        yield table(
            "Devices", ("device", "identity", "should be", "confirmed"), [_device(device) for device in found.devices]
        )
    if found.billing:
        yield table(
            "Billing",
            ("plan", "price", "status", "from", "until"),
            [
                (b["plan"], b["price_ref"], mark(b["status"]), when(b["started_at"]), when(b["ended_at"]))
                for b in found.billing
            ],
        )
    if found.history:
        yield table(
            f"History of its addresses{_of(found.history)}",
            ("at", "prefix", "VRF", "from", "to", "order"),
            [
                (when(e["at"]), e["prefix"], e["vrf"], e["from_state"], mark(e["to_state"]), e["order_id"])
                for e in found.history[-_SHOWN:]
            ],
            spare=("from",),
        )
    yield table(
        f"Orders{_of(found.orders)}",
        ("at", "order", "operation", "outcome", "reason"),
        [
            (when(o["created_at"]), o["order_id"], o["operation"], mark(o["status"]), _why(o))
            for o in found.orders[-_SHOWN:]
        ],
    )


def _running(run: Progress, found: Overview) -> Iterator[RenderableType]:
    if run.parked:
        tries = f", tried {run.parked.attempts} times" if (run.parked.attempts or 1) > 1 else ""
        yield Text(
            f"WAITS FOR AN OPERATOR: {escape(run.attention)} (since {when(run.parked.since)}{tries})\n"
            f"Decide with `lastmile retry|skip|abandon {found.subscriber_ref} --tenant {found.tenant} --why REASON`, "
            "or in the Temporal UI with the update retry_step, skip_step or abandon.",
            style="bold red",
        )
    rows = [
        (
            step.step,
            mark(step.outcome or ("running" if step.step == run.step else "")),
            step.attempts,
            "" if step.seconds is None else duration(step.seconds),
            step.reason,
        )
        for step in run.steps
    ]
    title = f"Now {run.status.replace('_', ' ')}: {run.operation}, order {run.order_id}"
    yield table(title, ("step", "outcome", "tries", "took", "reason"), rows)


def _who(found: Overview) -> Table:
    record, customer, line = found.subscriber or {}, found.customer or {}, found.line or {}
    account = found.radius or {}
    if not found.subscriber:
        state = "there is no such subscriber now"
    elif record["archived_at"]:
        state = f"deprovisioned on {when(record['archived_at'])} by order {record['archived_by_order']}"
    else:
        state = f"since {when(record['created_at'])}, by order {record['created_by_order']}"
    values: dict[str, Any] = {
        "record": state,
        "reason": record.get("archive_reason"),
        "customer": f"{customer['name']} ({customer['ref']})" if customer else "",
        "contact": ", ".join(filter(None, (customer.get("email"), customer.get("phone")))),
        "line": ", ".join(f"{name} {value}" for name, value in line.items()),
        "RADIUS": account.get("username"),
        "RADIUS plan": (account.get("group") or "").partition("@")[0],
        "RADIUS password": account.get("password"),
        "RADIUS logins": "refused: the line is being deprovisioned" if account.get("blocked") else "",
    }
    return facts(f"{found.subscriber_ref}, tenant {found.tenant}", values)


def _addresses(found: Overview) -> Table:
    held = [
        (a["prefix"], a["purpose"], a["vrf"], mark(a["state"]), when(a["since"]), a["pool"]) for a in found.addresses
    ]
    resting = [
        (a["prefix"], a["purpose"], a["vrf"], mark("quarantine"), f"until {when(a['until'])}", a["pool"])
        for a in found.quarantine
    ]
    return table(
        "Addresses", ("address", "for", "VRF", "state", "since", "pool"), [*held, *resting], spare=("pool", "for")
    )


def _device(device: dict[str, Any]) -> tuple[Any, ...]:
    wanted = "in service" if device["wanted"] else "out of service"
    return device["kind"].upper(), device["identity"], wanted, "yes" if device["confirmed"] else "no"


def _why(order: dict[str, Any]) -> str:
    return order["reason"] or "; ".join(order["warnings"])


def _of(rows: list[dict[str, Any]]) -> str:
    return f" (the newest {_SHOWN} of {len(rows)})" if len(rows) > _SHOWN else ""
