"""`lastmile netbox import`: prefixes that carry subscribers in NetBox become delegations."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from ipam.netbox.binding import AllocationMode, BoundPool, pool_named
from ipam.netbox.importer.scan import Estate
from ipam.pools import list_pools
from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.inventory import the_pool
from lastmile.cli.netbox.setup import open_netbox
from lastmile.cli.output import print_json, say
from lastmile.contract.lines import Reference
from lastmile.errors import InvalidInputError
from lastmile.services.netbox_import import Fate, Importer, Judged

__all__ = ["import_prefixes"]


async def import_prefixes(name: str, tenant: str | None, field: str | None, *, apply: bool, as_json: bool) -> Exit:
    """Import what fits, or say what would be; FAILED where something does not."""
    settings = load_settings()
    async with open_database(settings) as database, open_netbox(settings) as netbox:
        await check_tenant(database, tenant)
        async with database.platform() as connection:
            pool = the_pool(await list_pools(connection), name, tenant).pool
            if pool.netbox is None or pool.netbox.mode is not AllocationMode.DIRECT:
                raise InvalidInputError(
                    f"Pool {name} is not one that NetBox chooses from: import into it while it is "
                    f"(lastmile pool set {name} --netbox direct), and change it back afterwards."
                )
            there: BoundPool = await pool_named(connection, pool.name, pool.tenant)
        await netbox.require()
        run = f"import-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        attribute = settings.vrf_attribute
        vrf_items = [attribute.item(pool.vrf)] if attribute and pool.vrf else []
        importer = Importer(database, netbox, there, pool.purpose, run=run, actor=actor(), vrf_items=vrf_items)
        counts: Counter[Fate] = Counter()
        with Estate(there, pool.tenant, field, TypeAdapter(Reference)) as estate:
            await estate.read(netbox.records(vrf_id=there.netbox.vrf_id, within=there.prefix))
            for batch in estate.carried():
                for judged in await importer.judge(batch):
                    if apply and judged.fate in (Fate.IMPORT, Fate.STAMP):
                        judged = await importer.take(judged.carried)
                    counts[judged.fate] += 1
                    _show(judged, as_json)
    _sum_up(counts, estate.others, apply=apply, as_json=as_json)
    return Exit.FAILED if counts[Fate.REJECT] else Exit.DONE


def _show(judged: Judged, as_json: bool) -> None:
    one = judged.carried
    if as_json:
        facts: dict[str, Any] = {"prefix": str(one.prefix), "subscriber": one.subscriber_ref, "tenant": one.tenant}
        print_json(facts | {"fate": judged.fate, "reason": judged.reason})
    elif judged.fate is Fate.REJECT:
        say(f"{one.prefix} {judged.reason}.")


def _sum_up(counts: Counter[Fate], others: int, *, apply: bool, as_json: bool) -> None:
    new = counts[Fate.IMPORT] + counts[Fate.STAMP]
    if as_json:
        print_json(
            {
                "applied": apply,
                "imported" if apply else "to_import": new,
                "ours": counts[Fate.OURS],
                "rejected": counts[Fate.REJECT],
                "others": others,
            }
        )
        return
    did = f"{new:,} imported" if apply else f"{new:,} would be imported"
    say(
        f"{did}, {counts[Fate.OURS]:,} are delegations already, {counts[Fate.REJECT]:,} do not fit, "
        f"{others:,} name no subscriber."
    )
    if new and not apply:
        say("Nothing was changed. Repeat the command with --apply to import.")
