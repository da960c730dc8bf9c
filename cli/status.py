"""`lastmile status`: a subscriber and its running order, for a person on the phone with them."""

import asyncio
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from cli.exits import Exit
from cli.output import console, facts, mark, print_json, table, when
from cli.overview import Overview, overview
from cli.services import Temporal, load_settings, open_database, pick_tenant
from settings import Settings
from subscribers.errors import UnknownSubscriber
from workflows.connection import Unreachable
from workflows.contract import Progress, RunStatus

__all__ = ["status"]

# A run whose step hangs answers when the SDK ends its workflow task, after eight seconds.
ANSWER_SECONDS = 10
_SHOWN = 20


async def status(subscriber: str, *, tenant: str | None, password: bool, as_json: bool) -> Exit:
    """Everything about one subscriber. Raises `UnknownSubscriber`."""
    settings = load_settings()
    async with open_database(settings) as database:
        tenant = await pick_tenant(database, tenant)
        async with database.tenant(tenant) as connection:
            found = await overview(connection, tenant, subscriber, password=password)
    order, run, trouble = await _run(settings, tenant, subscriber)
    if not found.known and not order:
        words = f"Tenant {tenant} has no subscriber {subscriber}, and never had: check the reference. {trouble}"
        raise UnknownSubscriber(words.rstrip())
    if as_json:
        shown = (
            {"run": run.model_dump(mode="json"), "run_unknown": ""} if run else {"run": None, "run_unknown": trouble}
        )
        print_json(found.model_dump() | shown | {"run_waits": trouble if run else ""})
    else:
        for part in _parts(found, run, trouble):
            console.print(part)
    return Exit.DONE


async def _run(settings: Settings, tenant: str, subscriber: str) -> tuple[str, Progress | None, str]:
    """The order that has not ended, where it stands, and what is in its way, or in that of knowing either."""
    order = ""
    try:
        temporal = await Temporal.connect(settings)
        if not (order := await temporal.open_run(tenant, subscriber)):
            return "", None, ""
        if lack := await temporal.lack_of_workers():
            return order, None, f"{order} has been started and waits. {lack}"
        async with asyncio.timeout(ANSWER_SECONDS):
            progress = await temporal.orders.progress(tenant, subscriber)
            waits = await temporal.tried_again(tenant, subscriber)
    except (Unreachable, RPCError, WorkflowQueryFailedError, TimeoutError) as failure:
        words = str(failure) or f"Temporal did not answer within {ANSWER_SECONDS} s"
        unknown = f"Where {order} stands" if order else "Whether an order is running"
        return order, None, f"{unknown} is not known: {words}"
    return order, (progress if progress and progress.status is not RunStatus.ENDED else None), waits


def _parts(found: Overview, run: Progress | None, trouble: str) -> Iterator[RenderableType]:
    """What needs a person first, then what is, then what was."""
    if trouble:
        yield Text(trouble, style="yellow")
    if run is not None:
        yield from _running(run, found)
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
        )
    yield table(
        f"Orders{_of(found.orders)}",
        ("at", "order", "operation", "outcome", ""),
        [
            (when(o["created_at"]), o["order_id"], o["operation"], mark(o["status"]), _why(o))
            for o in found.orders[-_SHOWN:]
        ],
    )


def _running(run: Progress, found: Overview) -> Iterator[RenderableType]:
    if run.parked:
        tries = f", tried {run.parked.attempts} times" if (run.parked.attempts or 1) > 1 else ""
        yield Text(
            f"WAITS FOR AN OPERATOR: {run.attention} (since {when(run.parked.since)}{tries})\n"
            f"Decide with `lastmile retry|skip|abandon {found.subscriber_ref} --tenant {found.tenant} --why REASON`, "
            "or in the Temporal UI with the update retry_step, skip_step or abandon.",
            style="bold red",
        )
    rows = [
        (
            step.step,
            mark(step.outcome or ("running" if step.step == run.step else "")),
            step.attempts,
            "" if step.seconds is None else f"{step.seconds:.2f}",
            step.reason,
        )
        for step in run.steps
    ]
    title = f"Now {run.status.replace('_', ' ')}: {run.operation}, order {run.order_id}"
    yield table(title, ("step", "outcome", "tries", "seconds", ""), rows)


def _who(found: Overview) -> Table:
    record, customer, line = found.subscriber or {}, found.customer or {}, found.line or {}
    account = found.radius or {}
    if not found.subscriber:
        state = "there is no such subscriber now"
    elif record["archived_at"]:
        state = f"taken down on {when(record['archived_at'])} by order {record['archived_by_order']}"
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
        "RADIUS logins": "refused: the line is being taken down" if account.get("blocked") else "",
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
    return table("Addresses", ("address", "for", "VRF", "state", "since", "pool"), [*held, *resting])


def _device(device: dict[str, Any]) -> tuple[Any, ...]:
    wanted = "in service" if device["wanted"] else "out of service"
    return device["kind"].upper(), device["identity"], wanted, "yes" if device["confirmed"] else "no"


def _why(order: dict[str, Any]) -> str:
    return order["reason"] or "; ".join(order["warnings"])


def _of(rows: list[dict[str, Any]]) -> str:
    return f" (the newest {_SHOWN} of {len(rows)})" if len(rows) > _SHOWN else ""
