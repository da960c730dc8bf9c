"""`lastmile pool set`: change how a pool is kept in NetBox, by a Temporal workflow, while orders continue."""

import asyncio
from typing import Any

from pydantic import ValidationError

from ipam.netbox.binding import AllocationMode, Binding, ReportingScope, resolve_prefix
from ipam.netbox.mode_change.plan import pool_id
from ipam.netbox.requirements import check
from ipam.pools import Pool
from lastmile.cli.connections import connect_temporal, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.pool_changes import named_pool
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import print_error, print_result
from lastmile.client.operator_client import OperatorClient
from lastmile.client.pool_modes import PoolModeOutageError, change_pool_mode
from lastmile.contract.pool_modes import PoolModeChange
from lastmile.errors import InvalidInputError, UnavailableError
from lastmile.services.tenants import list_tenants
from lastmile.validation_messages import mistakes

__all__ = ["pool_set"]

NAMES = {
    "netbox.mode": "--netbox",
    "netbox.on_release": "--on-release",
    "netbox.record": "--record",
    "netbox.block_length": "--block-length",
}


async def pool_set(name: str, tenant: str | None, asked: dict[str, Any], as_json: bool) -> Exit:
    """Bring the pool to what is asked for, by the fields of `Binding`; what is not stays."""
    settings = load_settings()
    if not asked:
        raise InvalidInputError(
            "Say what to change: --exclude, --include, --netbox, --record, --block-length or --on-release."
        )
    async with open_database(settings) as database, open_netbox(settings) as netbox:
        pool = (await named_pool(database, name, tenant)).pool
        tenants = {one.id: one.name for one in await list_tenants(database)}
        requested = _requested(pool, asked)
        prefix_id, vrf_id = await resolve_prefix(netbox, pool.prefix, pool.vrf)
        requested = requested.model_copy(update={"prefix_id": prefix_id, "vrf_id": vrf_id})
        served = {id: called for id, called in tenants.items() if pool.tenant in (id, None)}
        if lacking := [one for one in await check(netbox.wire, (), served) if one.problem]:
            words = [f"{one.requirement}: {one.problem}" for one in lacking]
            option = f" --tenant {pool.tenant}" if pool.tenant else ""
            raise InvalidInputError(
                f"NetBox lacks what the pool needs; `lastmile netbox setup{option}` creates it:", words
            )
        async with database.platform() as connection:
            id_ = await pool_id(connection, pool)
    change = PoolModeChange(
        pool_id=id_,
        pool=name,
        before=pool.netbox and pool.netbox.model_dump(mode="json"),
        requested=requested.model_dump(mode="json"),
        requested_by=current_user(),
    )
    await _carry_out(await connect_temporal(settings), change)
    print_result(
        f"Pool {name} is {_describe(requested)}.",
        as_json,
        **pool.model_dump(mode="json") | {"netbox": requested.model_dump()},
    )
    return Exit.DONE


async def _carry_out(operator: OperatorClient, change: PoolModeChange) -> None:
    """Have a worker carry out the change, and show its progress. Raises `UnavailableError` and `ClientError`."""
    if shortage := await operator.worker_shortage():
        raise UnavailableError(f"Pool {change.pool} was not changed: a worker carries out the change. {shortage}")
    run = await change_pool_mode(operator.client, operator.task_queue, change)
    if run.attached:
        print_error(f"Pool {change.pool}: the same change is running already; this command follows it.")
    try:
        async for words in run.follow():
            print_error(f"Pool {change.pool}: {words}.")
        await run.result()
    except PoolModeOutageError as failure:
        raise UnavailableError(str(failure)) from failure
    except asyncio.CancelledError:
        print_error(
            f"Interrupted: the change of pool {change.pool} continues in Temporal, as workflow {run.handle.id}. "
            f"The same command again follows it; `temporal workflow cancel --workflow-id {run.handle.id}` cancels it."
        )
        raise


def _requested(pool: Pool, asked: dict[str, Any]) -> Binding:
    """Raises `InvalidInputError`."""
    now: dict[str, Any] = pool.netbox.model_dump() if pool.netbox else {"prefix_id": 0, "vrf_id": None}
    if pool.netbox is None and "mode" not in asked:
        raise InvalidInputError(
            f"Pool {pool.name} is in the database alone: give --netbox direct or --netbox delegated."
        )
    mode = asked.get("mode") or now["mode"]
    if mode == AllocationMode.DIRECT:
        now |= {"record": None, "block_length": None}
    elif pool.netbox is not None and pool.netbox.mode is AllocationMode.DIRECT:
        now |= {"record": ReportingScope.PREFIX}  # as it has; with blocks alone NetBox would lose them
    try:
        requested = Pool.model_validate(pool.model_dump() | {"netbox": now | asked}).netbox
    except ValidationError as failure:
        raise InvalidInputError(
            f"Invalid NetBox settings of pool {pool.name}:", mistakes(failure, Pool, NAMES)
        ) from None
    assert requested is not None
    return requested


def _describe(place: Binding) -> str:
    if place.mode is AllocationMode.DIRECT:
        return f"direct: NetBox chooses its prefixes; on release: {place.on_release}"
    recorded = "each prefix" if place.record == "prefix" else "the blocks only"
    return (
        f"delegated: Lastmile assigns from blocks of /{place.block_length} in NetBox, which records {recorded}; "
        f"on release: {place.on_release}"
    )
