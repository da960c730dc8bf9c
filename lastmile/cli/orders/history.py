"""`lastmile history`: what happened to a subscriber, or who had a prefix when."""

from dataclasses import asdict
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

from lastmile.audit.history import Happening, Tenure, holders, of_subscriber
from lastmile.cli.connections import check_tenant, load_settings, open_database, pick_tenant
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, in_vrf, print_json, table, when
from lastmile.cli.times import time_in_utc
from lastmile.errors import InvalidInputError, NonRetryableError

__all__ = ["history"]

# What people call a record; those of the subscriber itself need no name of their own.
_RECORDS = {
    "customers": "customer {}",
    "subscribers": "subscriber",
    "network_profiles": "network profile",
    "billing_services": "billing service",
    "devices": "device {}",
    "radcheck": "RADIUS account",
    "radusergroup": "RADIUS group",
    "radreply": "RADIUS reply",
    "delegations": "{}",
    "acknowledgements": "acknowledgement of {}",
}

Prefix = IPv4Network | IPv6Network | IPv4Address | IPv6Address


class NoHistoryError(NonRetryableError):
    """No entry answers the question."""


async def history(about: str, *, tenant: str | None, at: str | None, since: str | None, as_json: bool) -> Exit:
    """Answer for a prefix or address where `about` is one, else for a subscriber. Raises `NoHistoryError`."""
    prefix = _prefix(about)
    moment = None if at is None else time_in_utc("--at", at)
    earliest = None if since is None else time_in_utc("--since", since)
    if moment and prefix is None:
        raise InvalidInputError(f"--at is for a prefix, and {about} is a subscriber: use --since.")
    if moment and earliest:
        raise InvalidInputError("Use --at or --since, not both.")
    if prefix is None:
        return await _subscriber(about, tenant, earliest, as_json)
    return await _holders(prefix, tenant, moment, earliest, as_json)


def _prefix(about: str) -> Prefix | None:
    """None: a subscriber's reference, which has no slash, colon or percent sign."""
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
        tenant = await pick_tenant(database, tenant)
        async with database.platform() as connection:
            found = await of_subscriber(connection, tenant, ref, since)
    if not found:
        after = f" since {when(since)}" if since else ", and never was: check the reference"
        raise NoHistoryError(f"No history of subscriber {ref} of tenant {tenant}{after}.")
    if as_json:
        for entry in found:
            print_json(asdict(entry))
    else:
        columns = ("at", "by", "order", "change", "detail")
        console.print(table(f"{ref}, tenant {tenant}", columns, map(_happening, found)))
    return Exit.DONE


async def _holders(
    prefix: Prefix, tenant: str | None, at: datetime | None, since: datetime | None, as_json: bool
) -> Exit:
    async with open_database(load_settings()) as database:
        await check_tenant(database, tenant)
        async with database.platform() as connection:
            known = await holders(connection, prefix, at)
    found = [tenure for tenure in known if tenant in (None, tenure.tenant) and _lasted(tenure, since)]
    if not found:
        whose = f" of tenant {tenant}" if tenant else ""
        moment = f" at {when(at)}" if at else f" since {when(since)}" if since else ""
        raise NoHistoryError(f"No subscriber{whose} had {prefix}, or a part of it{moment}, as far back as is known.")
    if as_json:
        for tenure in found:
            print_json(asdict(tenure))
    else:
        columns = ("subscriber", "tenant", "prefix", "VRF", "from", "until", "order", "by")
        console.print(table(f"Holders of {prefix}{f', {when(at)}' if at else ''}", columns, map(_tenure, found)))
    return Exit.DONE


def _lasted(tenure: Tenure, since: datetime | None) -> bool:
    return since is None or tenure.until is None or tenure.until >= since


def _tenure(tenure: Tenure) -> tuple[Any, ...]:
    until = when(tenure.until) or "now"
    return (
        tenure.subscriber_ref, tenure.tenant, tenure.prefix, tenure.vrf, when(tenure.since), until, tenure.order_id,
        tenure.requested_by,
    )  # fmt: skip


def _happening(entry: Happening) -> tuple[Any, ...]:
    record = _RECORDS[entry.record].format(entry.key) + in_vrf((entry.after or {}).get("vrf"))
    return when(entry.at), entry.actor, entry.order_id, f"{record} {entry.action}", _changes(entry)


def _changes(entry: Happening) -> str:
    """What a change changed, or what RADIUS was to hand out; of other records that came or went, the name is enough."""
    before, after = entry.before or {}, entry.after or {}
    if entry.action == "changed":
        return ", ".join(_change(name, before.get(name), value) for name, value in after.items() if name != "vrf")
    row = after or before
    if entry.record == "acknowledgements":
        return f"{row['invariant']}: {row['why']}"
    return f"{row['attribute']} {row['value']}" if entry.record == "radreply" else ""


def _change(name: str, before: Any, after: Any) -> str:
    return f"{name} {after}" if before is None else f"{name} {before} → {'nothing' if after is None else after}"
