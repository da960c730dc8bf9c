"""`lastmile history`: the changes of a subscriber's records, or the holders of a prefix."""

from dataclasses import asdict
from datetime import datetime
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from lastmile.audit.history import HistoryEntry, Tenure
from lastmile.cli.connections import check_tenant, choose_tenant, load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, make_table, print_json
from lastmile.cli.times import time_in_utc
from lastmile.errors import InvalidInputError, NonRetryableError
from lastmile.fields.phrases import format_time, in_vrf
from lastmile.services.history import Prefix, find_holders, find_subscriber_history

__all__ = ["history"]

# The name of each record, with its key where a subscriber can have several.
_RECORDS = {
    "customers": "customer {}",
    "subscribers": "subscriber",
    "network_profiles": "network profile",
    "billing_services": "billing service",
    "suspensions": "suspension",
    "devices": "device {}",
    "pending_device_calls": "waiting call of {}",
    "radcheck": "RADIUS account",
    "radusergroup": "RADIUS group",
    "radreply": "RADIUS reply",
    "delegations": "{}",
    "acknowledgements": "acknowledgement of {}",
}


class NoHistoryError(NonRetryableError):
    """The history has no entry about the subscriber or the prefix."""


async def history(about: str, *, tenant: str | None, at: str | None, since: str | None, as_json: bool) -> Exit:
    """Show the history of a prefix or address, or of a subscriber. Raises `NoHistoryError`."""
    prefix = _parse_prefix(about)
    moment = None if at is None else time_in_utc("--at", at)
    earliest = None if since is None else time_in_utc("--since", since)
    if moment and prefix is None:
        raise InvalidInputError(f"--at is for a prefix, and {about} is a subscriber: use --since.")
    if moment and earliest:
        raise InvalidInputError("Use --at or --since, not both.")
    if prefix is None:
        return await _subscriber(about, tenant, earliest, as_json)
    return await _holders(prefix, tenant, moment, earliest, as_json)


def _parse_prefix(about: str) -> Prefix | None:
    """Parse a prefix or an address. Return None for a subscriber's reference: it has no slash, colon or percent sign.

    Raises `InvalidInputError`.
    """
    try:
        if "%" in about:
            raise InvalidInputError(
                f"{about!r} has a zone, which the address of a subscriber does not have: leave it out."
            )
        return ip_network(about) if "/" in about else ip_address(about)
    except ValueError:
        if "/" in about and _has_host_bits(about):
            raise InvalidInputError(
                f"{about!r} has host bits set: did you mean {ip_interface(about).network}?"
            ) from None
        if any(sign in about for sign in "/:"):
            raise InvalidInputError(
                f"{about!r} is not a prefix, an address or a subscriber's reference: write 2001:db8::/56, 192.0.2.1 or "
                "S-1001."
            ) from None
        return None


def _has_host_bits(about: str) -> bool:
    try:
        return ip_interface(about) is not None
    except ValueError:
        return False


async def _subscriber(ref: str, tenant: str | None, since: datetime | None, as_json: bool) -> Exit:
    async with open_database(load_settings()) as database:
        tenant = await choose_tenant(database, tenant)
        found = await find_subscriber_history(database, tenant, ref, since)
    if not found:
        after = f" since {format_time(since)}" if since else ": check the reference"
        raise NoHistoryError(f"No history of subscriber {ref} of tenant {tenant}{after}.")
    if as_json:
        for entry in found:
            print_json(asdict(entry))
    else:
        columns = ("at", "by", "order", "change", "detail")
        rows = map(_entry_row, found)
        console.print(make_table(f"{ref}, tenant {tenant}", columns, rows, spare=("order", "by")))
    return Exit.DONE


async def _holders(
    prefix: Prefix, tenant: str | None, at: datetime | None, since: datetime | None, as_json: bool
) -> Exit:
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        found = await find_holders(database, prefix, tenant=tenant, at=at, since=since)
    if not found:
        whose = f" of tenant {tenant}" if tenant else ""
        moment = f" at {format_time(at)}" if at else f" since {format_time(since)}" if since else ""
        raise NoHistoryError(f"No subscriber{whose} had {prefix}, or a part of it{moment}, as far back as is known.")
    if as_json:
        for tenure in found:
            print_json(asdict(tenure))
    else:
        columns = ("subscriber", "tenant", "prefix", "VRF", "from", "until", "order", "by")
        title = f"Holders of {prefix}{f', {format_time(at)}' if at else ''}"
        console.print(make_table(title, columns, map(_tenure, found), spare=("order", "VRF", "by", "tenant")))
    return Exit.DONE


def _tenure(tenure: Tenure) -> tuple[Any, ...]:
    until = format_time(tenure.until) or "now"
    since = format_time(tenure.since)
    return (
        tenure.subscriber_ref, tenure.tenant, tenure.prefix, tenure.vrf, since, until, tenure.order_id,
        tenure.requested_by,
    )  # fmt: skip


def _entry_row(entry: HistoryEntry) -> tuple[Any, ...]:
    record = _RECORDS[entry.record].format(entry.key) + in_vrf((entry.after or {}).get("vrf"))
    return format_time(entry.at), entry.actor, entry.order_id, f"{record} {entry.action}", _changes(entry)


def _changes(entry: HistoryEntry) -> str:
    """Describe the changed fields; of a created or deleted record only the RADIUS reply or the acknowledgement."""
    before, after = entry.before or {}, entry.after or {}
    if entry.action == "changed":
        return ", ".join(_change(name, before.get(name), value) for name, value in after.items() if name != "vrf")
    row = after or before
    if entry.record == "pending_device_calls":
        return f"dropped by {after['by']}: {after['why']}"
    if entry.record == "acknowledgements":
        return f"{row['invariant']}: {row['why']}"
    return f"{row['attribute']} {row['value']}" if entry.record == "radreply" else ""


def _change(name: str, before: Any, after: Any) -> str:
    return f"{name} {after}" if before is None else f"{name} {before} → {'nothing' if after is None else after}"
