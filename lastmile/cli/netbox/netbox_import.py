"""`lastmile netbox import`."""

from collections import Counter
from typing import Any

from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.pool_changes import named_pool
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import print_json, print_text
from lastmile.services.netbox_import import ImportVerdict, InspectedPrefix, NetBoxImport

__all__ = ["import_prefixes"]


async def import_prefixes(name: str, tenant: str | None, field: str | None, *, apply: bool, as_json: bool) -> Exit:
    """Import prefixes, or without `apply` list what would be imported; FAILED if a prefix is rejected."""
    settings = load_settings()
    counts: Counter[ImportVerdict] = Counter()
    async with open_database(settings) as database, open_netbox(settings) as netbox:
        pool = (await named_pool(database, name, tenant)).pool
        prefixes = NetBoxImport(database, netbox, actor=current_user(), vrf_attribute=settings.vrf_attribute)
        async for inspected in prefixes.run(pool, field, apply=apply):
            counts[inspected.verdict] += 1
            _show(inspected, as_json)
    _show_summary(counts, prefixes.ignored, apply=apply, as_json=as_json)
    return Exit.FAILED if counts[ImportVerdict.REJECT] else Exit.DONE


def _show(inspected: InspectedPrefix, as_json: bool) -> None:
    one = inspected.carried
    if as_json:
        facts: dict[str, Any] = {"prefix": str(one.prefix), "subscriber": one.subscriber_ref, "tenant": one.tenant}
        print_json(facts | {"verdict": inspected.verdict, "reason": inspected.reason})
    elif inspected.verdict is ImportVerdict.REJECT:
        print_text(f"{one.prefix} {inspected.reason}.")


def _show_summary(counts: Counter[ImportVerdict], ignored: int, *, apply: bool, as_json: bool) -> None:
    new = counts[ImportVerdict.IMPORT] + counts[ImportVerdict.STAMP]
    if as_json:
        print_json(
            {
                "applied": apply,
                "imported" if apply else "to_import": new,
                "managed": counts[ImportVerdict.MANAGED],
                "rejected": counts[ImportVerdict.REJECT],
                "others": ignored,
            }
        )
        return
    done = f"{new:,} imported" if apply else f"{new:,} would be imported"
    known, rejected = counts[ImportVerdict.MANAGED], counts[ImportVerdict.REJECT]
    print_text(f"{done}, {known:,} are delegations already, {rejected:,} are rejected, {ignored:,} name no subscriber.")
    if new and not apply:
        print_text("Nothing was changed. Repeat the command with --apply to import.")
