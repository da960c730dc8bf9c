"""The activities of the daily cleanup: delete old records, and complete revocations that were interrupted.

Each activity does as much as one attempt has time for, and returns where to continue. No order's fence protects these
changes: they concern ended delegations, or revocations, which only go forward. Each statement checks by itself
that this still holds.
"""

from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import structlog

from activities.base import Activities, maintenance_activity, time_left
from activities.maintenance.messages import MaintenanceReport, MaintenanceSearch, RevocationReport, Stuck
from ipam.allocation import Quarantine, release
from ipam.delegations import Delegation, held_by, revoked_for, transition
from ipam.lifecycle import State
from ipam.netbox import NetBox
from ipam.netbox.direct import pending_removals
from ipam.netbox.direct.record_updates import release_records
from ipam.netbox.errors import NetBoxError, NoNetBoxError
from lastmile.audit import retention, stale
from lastmile.contract.maintenance import Cursor
from lastmile.db import Database, TenantConnection
from lastmile.radius import accounts
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.radius.vrf import VrfAttribute
from lastmile.services.reply_items import ReplyItems
from lastmile.services.sessions import Sessions

__all__ = ["CleanupActivities"]

ACTOR = "cleanup"
"""The actor in the audit log."""

BUDGET = timedelta(seconds=20)
"""How long one attempt continues with the next batch."""
NETBOX_BUDGET = timedelta(minutes=10)
"""The same for NetBox, which deletes about ten records a second; the next day deletes the others."""
BATCH = 20_000
"""Delegations deleted at once: a tenth of a second, well within a statement's time-out."""
PAGE = 200
SHOWN = 50
"""The number of leaks in the result."""
TOO_MANY = 3
"""Failures in a row after which NetBox itself is assumed to fail."""

log = structlog.get_logger("lastmile.cleanup")


class CleanupActivities(Activities):
    def __init__(
        self,
        database: Database,
        authorization: DynamicAuthorization,
        quarantine: Quarantine,
        audit_period: timedelta,
        netbox: NetBox | None = None,
        *,
        vrf_attribute: VrfAttribute | None = None,
    ) -> None:
        """`audit_period` is how long the audit log and the events of ended delegations are kept."""
        super().__init__(database)
        self._reply_items = ReplyItems(vrf_attribute)
        self._sessions = Sessions(database, authorization, quarantine.unconfirmed)
        self._quarantine = quarantine
        self._audit_period = audit_period
        self._netbox = netbox

    @maintenance_activity
    async def delete_revoked(self, search: MaintenanceSearch) -> MaintenanceReport:
        """Delete delegations that were released long ago and whose quarantine is over."""
        age = max(search.older_than, self._quarantine.confirmed, self._quarantine.unconfirmed)
        deleted, after = 0, _place(search.after)
        in_time = time_left(BUDGET)
        while True:
            async with self._database.platform(actor=ACTOR) as connection:
                batch = await retention.delete_ended(connection, age, after, batch=BATCH, dry_run=search.dry_run)
            deleted, after = deleted + batch.deleted, batch.after
            if after is None or not in_time():
                return MaintenanceReport(
                    counts={"revoked_deleted": deleted}, after=_cursor(after), more=after is not None
                )

    @maintenance_activity
    async def report_leaks(self, search: MaintenanceSearch) -> MaintenanceReport:
        """Report every delegation that has been allocated for too long, whatever the state of its order."""
        async with self._database.platform() as connection:
            found = await stale.find_leaks(connection, search.older_than, _place(search.after), page=PAGE)
        for leak in () if search.dry_run else found:
            # No prefix: logs have no personal data. Subscriber and order identify it.
            log.warning(
                "ipv6_lifecycle.prefix_leak",
                tenant=leak.tenant,
                subscriber_ref=leak.subscriber_ref,
                order_id=leak.order_id,
                order_status=leak.order_status,
                allocated_since=leak.at[0].isoformat(),
                delegation=leak.at[1],
            )
        return MaintenanceReport(
            counts={"allocated_stale": len(found)},
            lines=[_words(leak) for leak in found[:SHOWN]],
            after=_cursor(found[-1].at if found else None),
            more=len(found) == PAGE,
        )

    @maintenance_activity
    async def stuck_revocations(self, search: MaintenanceSearch) -> MaintenanceReport:
        """Find the subscribers whose revocations began long ago and have not ended."""
        async with self._database.platform() as connection:
            found = await stale.find_unfinished_revocations(
                connection, search.older_than, _place(search.after), page=PAGE
            )
        subscribers = dict.fromkeys((one.tenant, one.subscriber_ref) for one in found)
        return MaintenanceReport(
            counts={"revoking_stuck": len(found)},
            stuck=[Stuck(tenant=tenant, subscriber_ref=ref) for tenant, ref in subscribers],
            after=_cursor(found[-1].at if found else None),
            more=len(found) == PAGE,
        )

    @maintenance_activity
    async def finish_revocation(self, stuck: Stuck) -> RevocationReport:
        """Complete every revocation of the subscriber: disconnect, revoked, released, also in NetBox.

        The caller's run has the subscriber's workflow id. A late attempt, after that run has ended, does no
        harm: it changes only the delegations that it saw in time, and those can only be revoked.
        """
        async with self._subscriber(stuck) as connection:
            user = await accounts.find_username(connection, stuck.tenant, stuck.subscriber_ref)
            seen = await _unfinished(connection, stuck)
            # The account is not changed: a line may stay in service without these addresses.
            held = await held_by(connection, stuck.subscriber_ref)
            in_service = [one for one in held if one.state in (State.ACTIVE, State.SUSPENDED)]
            await self._reply_items.remove(connection, user, seen, stay=in_service)
        in_use = any(delegation.state is State.REVOKING for delegation in seen)
        problems = await self._sessions.disconnect(stuck.tenant, user) if in_use else []
        async with self._subscriber(stuck) as connection:
            finished = [
                await self._finish(connection, delegation, confirmed=not problems)
                for delegation in await _unfinished(connection, stuck, {delegation.id for delegation in seen})
            ]
        return RevocationReport(
            completed=len(finished), problems=problems + await self._release_in_netbox(stuck, finished)
        )

    async def _finish(self, connection: TenantConnection, delegation: Delegation, *, confirmed: bool) -> Delegation:
        if delegation.state is State.REVOKING:
            delegation = await transition(
                connection,
                delegation,
                State.REVOKED,
                order_id=await revoked_for(connection, delegation),
                reason="completed by the cleanup",
                disconnect_confirmed=confirmed,
            )
        await release(connection, delegation, self._quarantine)
        return delegation

    async def _release_in_netbox(self, stuck: Stuck, finished: Iterable[Delegation]) -> list[str]:
        """Release the records of direct pools; return what is wrong with them. A pending removal deletes the rest."""
        chosen = [delegation for delegation in finished if delegation.chosen_by_netbox]
        try:
            return await release_records(self._database, self._netbox, stuck.tenant, chosen)
        except (NetBoxError, NoNetBoxError) as failure:
            return [f"the release is not in NetBox yet: {failure}"]

    def _subscriber(self, stuck: Stuck) -> AbstractAsyncContextManager[TenantConnection]:
        return self._database.tenant(stuck.tenant, actor=ACTOR, subscriber_ref=stuck.subscriber_ref)

    @maintenance_activity
    async def purge_history(self, search: MaintenanceSearch) -> MaintenanceReport:
        """Delete entries of the audit log, and events of ended delegations, that are older than the audit period."""
        if search.dry_run:
            async with self._database.platform() as connection:
                there = await retention.count_purgeable(connection, self._audit_period)
            return MaintenanceReport(counts={"audit_entries_purged": there.entries, "events_purged": there.events})
        entries = events = 0
        more = False
        in_time = time_left(BUDGET)
        async for gone in retention.purge_all(self._database, self._audit_period, actor=ACTOR):
            entries, events = entries + gone.entries, events + gone.events
            if more := not in_time():
                break
        return MaintenanceReport(counts={"audit_entries_purged": entries, "events_purged": events}, more=more)

    @maintenance_activity
    async def remove_from_netbox(self, search: MaintenanceSearch) -> MaintenanceReport:
        """Delete the records in NetBox whose quarantine is over; a record that fails delays no other."""
        async with self._database.platform() as connection:
            due = await pending_removals.due(connection)
        if search.dry_run or not due:
            return MaintenanceReport(counts={"netbox_removed": due})
        if self._netbox is None:
            raise NoNetBoxError(f"{due} records are to be removed from NetBox, and this worker has no NETBOX_URL")
        removed = failed_in_a_row = 0
        left: list[str] = []
        in_time = time_left(NETBOX_BUDGET)
        while in_time() and failed_in_a_row < TOO_MANY:
            try:
                if not await pending_removals.remove_due(self._database, self._netbox, most=1, skip=len(left)):
                    break
                removed += 1
                failed_in_a_row = 0
            except NetBoxError as failure:
                left.append(f"NetBox: {failure}")
                failed_in_a_row += 1
        return MaintenanceReport(counts={"netbox_removed": removed, "errors": len(left)}, lines=left)

    @maintenance_activity
    async def cleanup_ended(self, result: dict[str, Any], failed: list[str]) -> None:
        """Log what was done; `failed` lists the parts that failed."""
        if result.pop("dry_run"):
            return
        del result["problems"]  # messages of failures can contain addresses: only the run's result has them
        if result["allocated_stale"]:
            log.warning("ipv6_lifecycle.stale_allocated_detected", count=result["allocated_stale"])
        if result["revoking_stuck"]:
            log.warning(
                "ipv6_lifecycle.stuck_revoking_detected",
                count=result["revoking_stuck"],
                completed=result["revoking_completed"],
            )
        if result["errors"]:
            log.error("ipv6_lifecycle.cleanup_failed", errors=result["errors"], failed=failed)
        if not failed:
            log.info("ipv6_lifecycle.cleanup_completed", **result)


async def _unfinished(
    connection: TenantConnection, stuck: Stuck, among: Collection[int] | None = None
) -> list[Delegation]:
    """Return the subscriber's revocations that have not ended, among these delegations or all."""
    return [
        delegation
        for delegation in await held_by(connection, stuck.subscriber_ref)
        if delegation.state in (State.REVOKING, State.REVOKED) and (among is None or delegation.id in among)
    ]


def _place(cursor: Cursor | None) -> stale.Cursor | None:
    return (cursor.at, cursor.id) if cursor else None


def _cursor(place: stale.Cursor | None) -> Cursor | None:
    return Cursor(at=place[0], id=place[1]) if place else None


def _words(leak: stale.Leak) -> str:
    return (
        f"{leak.tenant}, subscriber {leak.subscriber_ref}: allocated since {leak.at[0]:%Y-%m-%d %H:%M %Z} "
        f"by order {leak.order_id}, which is {leak.order_status or 'unknown'}"
    )
