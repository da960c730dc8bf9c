"""`lastmile status`: a subscriber's records, its running order and its scheduled orders."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lastmile.cli.connections import (
    choose_tenant,
    connect_temporal,
    find_tenant,
    load_settings,
    open_api,
    open_database,
)
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, fact_table, make_table, outcome_text, print_json
from lastmile.client.subscriber_orders import SubscriberOrders, find_subscriber_orders
from lastmile.contract import Progress
from lastmile.errors import InvalidInputError
from lastmile.fields.durations import format_duration
from lastmile.fields.phrases import format_time
from lastmile.fields.unsafe import escape
from lastmile.services.overview import Overview, find_overview
from lastmile.subscribers.errors import UnknownSubscriberError

__all__ = ["status"]

_SHOWN = 20


async def status(subscriber: str, *, tenant: str | None, password: bool, as_json: bool) -> Exit:
    """Show everything about one subscriber. Raises `UnknownSubscriberError`."""
    settings = load_settings()
    if settings.api_url is None:
        async with open_database(settings) as database:
            tenant = await choose_tenant(database, tenant)
            found = await find_overview(database, tenant, subscriber, password=password, asked_by=current_user())
        seen = await find_subscriber_orders(partial(connect_temporal, settings), tenant, subscriber)
    else:
        if password:
            raise InvalidInputError("--show-password: the REST API (LASTMILE_API_URL) shows no password.")
        tenant = await find_tenant(settings, tenant)
        async with open_api(settings) as operator:
            found = await operator.overview(tenant, subscriber)
            seen = await operator.subscriber_orders(tenant, subscriber)
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


def _parts(found: Overview, seen: SubscriberOrders) -> Iterator[RenderableType]:
    """Yield what needs an operator first, then the present state, then the history."""
    if seen.trouble:
        yield Text(escape(seen.trouble), style="yellow")
    if seen.run is not None:
        yield from _running(seen.run, found)
    if seen.scheduled:
        yield make_table(
            "Scheduled orders",
            ("starts", "order", "operation", "paused", "schedule"),
            [
                (format_time(one.at), one.order_id, one.operation, "in Temporal" if one.paused else "", one.schedule)
                for one in seen.scheduled
            ],
            spare=("schedule",),
        )
    yield _summary(found)
    if not found.known:
        return
    if found.addresses or found.quarantine:
        yield _addresses(found)
    if found.sessions:
        yield make_table(
            "Online",
            ("NAS", "session", "since", "calling from", "IPv4", "IPv6 prefix"),
            [
                (
                    s["nas"],
                    s["session"],
                    format_time(s["since"]),
                    s["calling_station"],
                    s["ipv4_address"],
                    s["ipv6_prefix"],
                )
                for s in found.sessions
            ],
            spare=("calling from",),
        )
    if found.devices:
        yield make_table(
            "Devices", ("device", "identity", "should be", "confirmed"), [_device(device) for device in found.devices]
        )
    if found.billing:
        yield make_table(
            "Billing",
            ("plan", "price", "status", "from", "until"),
            [
                (
                    b["plan"],
                    b["price_ref"],
                    outcome_text(b["status"]),
                    format_time(b["started_at"]),
                    format_time(b["ended_at"]),
                )
                for b in found.billing
            ],
        )
    if found.history:
        yield make_table(
            f"History of its addresses{_newest(found.history)}",
            ("at", "prefix", "VRF", "from", "to", "order"),
            [
                (
                    format_time(e["at"]),
                    e["prefix"],
                    e["vrf"],
                    e["from_state"],
                    outcome_text(e["to_state"]),
                    e["order_id"],
                )
                for e in found.history[-_SHOWN:]
            ],
            spare=("from",),
        )
    yield make_table(
        f"Orders{_newest(found.orders)}",
        ("at", "order", "operation", "outcome", "reason"),
        [
            (format_time(o["created_at"]), o["order_id"], o["operation"], outcome_text(o["status"]), _reason(o))
            for o in found.orders[-_SHOWN:]
        ],
    )


def _running(run: Progress, found: Overview) -> Iterator[RenderableType]:
    if run.parked:
        tries = f", tried {run.parked.attempts} times" if (run.parked.attempts or 1) > 1 else ""
        yield Text(
            f"WAITS FOR AN OPERATOR: {escape(run.attention)} (since {format_time(run.parked.since)}{tries})\n"
            f"Decide with `lastmile retry|skip|abandon {found.subscriber_ref} --tenant {found.tenant} --why REASON`, "
            "or in the Temporal UI with the update retry_step, skip_step or abandon.",
            style="bold red",
        )
    if run.waits_until:
        yield Text(f"Waits until {format_time(run.waits_until)} before the next step.", style="yellow")
    rows = [
        (
            step.step,
            outcome_text(step.outcome or ("running" if step.step == run.step else "")),
            step.attempts,
            "" if step.seconds is None else format_duration(step.seconds),
            step.reason,
        )
        for step in run.steps
    ]
    title = f"Now {run.status.replace('_', ' ')}: {run.operation}, order {run.order_id}"
    yield make_table(title, ("step", "outcome", "tries", "took", "reason"), rows)


def _summary(found: Overview) -> Table:
    record, customer, line = found.subscriber or {}, found.customer or {}, found.line or {}
    account = found.radius or {}
    if not found.subscriber:
        state = "there is no such subscriber now"
    elif record["archived_at"]:
        state = f"deprovisioned on {format_time(record['archived_at'])} by order {record['archived_by_order']}"
    else:
        state = f"since {format_time(record['created_at'])}, by order {record['created_by_order']}"
    values: dict[str, Any] = {
        "record": state,
        "reason": record.get("archive_reason"),
        "suspended": _suspension(found),
        "customer": _customer(customer),
        "contact": ", ".join(filter(None, (customer.get("email"), customer.get("phone")))),
        "line": ", ".join(f"{name} {value}" for name, value in line.items()),
        "RADIUS": account.get("username"),
        "RADIUS plan": (account.get("group") or "").partition("@")[0],
        "RADIUS password": account.get("password"),
        "RADIUS logins": "refused: the line is being deprovisioned" if account.get("blocked") else "",
    }
    return fact_table(f"{found.subscriber_ref}, tenant {found.tenant}", values)


def _customer(customer: dict[str, Any]) -> str:
    """Write the customer in words. A token without the permission for personal data gets the reference alone."""
    return f"{customer['name']} ({customer['ref']})" if "name" in customer else customer.get("ref", "")


def _suspension(found: Overview) -> str:
    """Write the suspension of the line in words; empty for a line in service."""
    if not found.suspensions or found.suspensions[-1]["ended_at"]:
        return ""
    last = found.suspensions[-1]
    until = f", until {format_time(last['until'])}" if last["until"] else ""
    mode = str(last["mode"]).replace("_", " ")
    return f"for {last['reason']} since {format_time(last['since'])}, {mode}{until}, by order {last['order_id']}"


def _addresses(found: Overview) -> Table:
    held = [
        (a["prefix"], a["purpose"], a["vrf"], outcome_text(a["state"]), _since(a), a["pool"]) for a in found.addresses
    ]
    quarantined = [
        (a["prefix"], a["purpose"], a["vrf"], outcome_text("quarantine"), f"until {format_time(a['until'])}", a["pool"])
        for a in found.quarantine
    ]
    return make_table(
        "Addresses", ("address", "for", "VRF", "state", "since", "pool"), [*held, *quarantined], spare=("pool", "for")
    )


def _since(address: dict[str, Any]) -> str:
    since = format_time(address["since"])
    return f"{since}, replaced, until {format_time(address['until'])}" if address["until"] else since


def _device(device: dict[str, Any]) -> tuple[Any, ...]:
    expected = "in service" if device["in_service"] else "out of service"
    return device["kind"].upper(), device["identity"], expected, "yes" if device["confirmed"] else "no"


def _reason(order: dict[str, Any]) -> str:
    return order["reason"] or "; ".join(order["warnings"])


def _newest(rows: list[dict[str, Any]]) -> str:
    return f" (the newest {_SHOWN} of {len(rows)})" if len(rows) > _SHOWN else ""
