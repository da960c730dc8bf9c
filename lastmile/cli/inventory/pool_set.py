"""`lastmile pool set`: change how a pool is kept in NetBox, by a Temporal workflow, while orders continue."""

import asyncio
from typing import Any

from pydantic import ValidationError

from ipam.modes import DelegatedMode, DirectMode, NetBoxMode, ReportingScope
from ipam.netbox.binding import resolve_prefix
from ipam.netbox.mode_change.plan import pool_id
from ipam.netbox.requirements import check
from ipam.pools import Pool
from lastmile.cli.connections import connect_temporal, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.netbox_options import NETBOX_OPTIONS, NOT_FOUND_YET, check_mode
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


async def pool_set(name: str, tenant: str | None, asked: dict[str, Any], as_json: bool) -> Exit:
    """Bring the pool to what is asked for, by the fields of its mode; what is not stays."""
    settings = load_settings()
    if not asked:
        raise InvalidInputError(
            "Say what to change: --exclude, --include, --netbox, --record, --block-length or --on-release."
        )
    async with open_database(settings) as database, open_netbox(settings) as netbox:
        pool = (await named_pool(database, name, tenant)).pool
        tenants = {one.id: one.name for one in await list_tenants(database)}
        requested = _requested(pool, asked).at(*await resolve_prefix(netbox, pool.prefix, pool.vrf))
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
        before=pool.netbox.model_dump(mode="json"),
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


def _requested(pool: Pool, asked: dict[str, Any]) -> DirectMode | DelegatedMode:
    """Raises `InvalidInputError`."""
    if not isinstance(pool.netbox, NetBoxMode) and "mode" not in asked:
        raise InvalidInputError(
            f"Pool {pool.name} is in the database alone: give --netbox direct or --netbox delegated."
        )
    now = NOT_FOUND_YET | pool.netbox.model_dump()
    if asked.get("mode", now["mode"]) != now["mode"]:
        check_mode(asked["mode"])
        now = {field: value for field, value in now.items() if field in NetBoxMode.model_fields}
        if isinstance(pool.netbox, DirectMode):
            now |= {"record": ReportingScope.PREFIX}  # as it has; with blocks alone NetBox would lose them
    try:
        requested = Pool.model_validate(pool.model_dump() | {"netbox": now | asked}).netbox
    except ValidationError as failure:
        raise InvalidInputError(
            f"Invalid NetBox settings of pool {pool.name}:", mistakes(failure, Pool, NETBOX_OPTIONS)
        ) from None
    assert isinstance(requested, DirectMode | DelegatedMode)
    return requested


def _describe(mode: DirectMode | DelegatedMode) -> str:
    if isinstance(mode, DirectMode):
        return f"direct: NetBox chooses its prefixes; on release: {mode.on_release}"
    recorded = "each prefix" if mode.reports_prefixes else "the blocks only"
    return (
        f"delegated: Lastmile assigns from blocks of /{mode.block_length} in NetBox, which records {recorded}; "
        f"on release: {mode.on_release}"
    )
