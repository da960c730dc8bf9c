"""`lastmile netbox reconcile`."""

from collections.abc import Sequence
from typing import Any

from ipam.netbox.errors import NetBoxError
from ipam.netbox.reconcile.differences import Difference
from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import console, make_table, print_json, print_text
from lastmile.services.netbox_reconciliation import ComparedDifference, compare, find_pools

__all__ = ["reconcile"]

_COLUMNS = ("difference", "pool", "prefix", "what was found")


async def reconcile(*, pool: str | None, everything: bool, repairing: bool, as_json: bool) -> Exit:
    """Compare NetBox with the database, and repair each difference on request; FAILED while a difference is left."""
    settings = load_settings()
    async with open_netbox(settings) as netbox, open_database(settings) as database:
        pools = await find_pools(database, pool)
        found: list[ComparedDifference] = []
        try:
            async for one in compare(database, netbox, pools, everything=everything, repairing=repairing):
                found.append(one)
                if as_json:
                    print_json(_json(one))
        except NetBoxError:
            if found and not as_json:
                _show(found)
            raise
    if as_json:
        pass
    elif not pools:
        print_text("No pool is kept in NetBox.")
    elif not found:
        print_text("NetBox and the database agree.")
    else:
        _show(found)
    return Exit.DONE if all(one.repaired for one in found) else Exit.FAILED


def _show(found: Sequence[ComparedDifference]) -> None:
    repaired = [one for one in found if one.repaired]
    left = [one for one in found if not one.repaired]
    if repaired:
        console.print(make_table(_count(repaired, "repaired"), _COLUMNS, [_row(one.difference) for one in repaired]))
    if left:
        tried = left[0].problem is not None
        rows = [(*_row(one.difference), one.problem or one.difference.advice("--repair")) for one in left]
        console.print(make_table(_count(left, "left" if tried else "found"), (*_COLUMNS, "what to do"), rows))
        if not tried and any(one.difference.promised for one in left):
            print_text("Nothing was changed. --repair repairs NetBox.")


def _row(one: Difference) -> tuple[str, ...]:
    return one.kind.value, one.pool.name, one.subject, one.words


def _count(found: Sequence[ComparedDifference], what: str) -> str:
    return f"{len(found):,} difference{'s' if len(found) > 1 else ''} {what}"


def _json(found: ComparedDifference) -> dict[str, Any]:
    one = found.difference
    return {
        "difference": one.kind.value,
        "pool": one.pool.name,
        "tenant": one.tenant,
        "prefix": one.subject,
        "netbox_id": one.netbox_id,
        "words": one.words,
        "repairable": one.repairable,
        "action": one.action,
        "repaired": found.repaired,
        "problem": found.problem or one.failed or None,
    }
