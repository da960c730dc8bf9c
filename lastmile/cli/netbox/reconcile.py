"""`lastmile netbox reconcile`: where NetBox and the database differ, what can be done about it, and the doing."""

from collections.abc import Sequence
from typing import Any

from ipam.netbox.binding import BoundPool, pools_in_netbox
from ipam.netbox.errors import NetBoxError
from ipam.netbox.reconcile.differences import Difference
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.reconcile.run import differences
from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.setup import open_netbox
from lastmile.cli.output import console, print_json, say, table
from lastmile.db import Database
from lastmile.errors import InvalidInputError

__all__ = ["reconcile"]

_COLUMNS = ("difference", "pool", "prefix", "what was found")

Found = tuple[Difference, str | None]
"""With why it is not repaired, which is empty where it is, and None where nobody tried."""


async def reconcile(*, pool: str | None, everything: bool, repairing: bool, as_json: bool) -> Exit:
    """Compare, and repair what is found one by one; FAILED while a difference is left."""
    settings = load_settings()
    async with open_netbox(settings) as netbox, open_database(settings) as database:
        pools = await _pools(database, pool)
        found: list[Found] = []
        try:
            async for one in differences(database, netbox, pools=pools, everything=everything):
                problem = await repair(database, netbox, one) if repairing else None
                found.append((one, problem))
                if as_json:
                    print_json(_json(one, problem))
        except NetBoxError:
            if found and not as_json:
                _show(found)
            raise
    if as_json:
        pass
    elif not pools:
        say("No pool is kept in NetBox.")
    elif not found:
        say("NetBox and the database agree.")
    else:
        _show(found)
    return Exit.FAILED if _left(found) else Exit.DONE


async def _pools(database: Database, name: str | None) -> list[BoundPool]:
    """Raises `InvalidInputError`."""
    async with database.platform() as connection:
        known = await pools_in_netbox(connection)
    if name is None:
        return known
    if not (named := [pool for pool in known if pool.name == name]):
        others = f"; there is {', '.join(sorted({pool.name for pool in known}))}" if known else ""
        raise InvalidInputError(f"There is no pool {name!r} that is kept in NetBox{others}.")
    return named


def _left(found: Sequence[Found]) -> list[Found]:
    return [one for one in found if one[1] != ""]


def _show(found: Sequence[Found]) -> None:
    left, repaired = _left(found), [one for one in found if one[1] == ""]
    if repaired:
        console.print(table(_count(repaired, "repaired"), _COLUMNS, [_row(one) for one, _ in repaired]))
    if left:
        tried = left[0][1] is not None
        rows = [(*_row(one), problem or one.advice("--repair")) for one, problem in left]
        console.print(table(_count(left, "left" if tried else "found"), (*_COLUMNS, "what to do"), rows))
        if not tried and any(one.promised for one, _ in left):
            say("Nothing was changed. --repair repairs NetBox.")


def _row(one: Difference) -> tuple[str, ...]:
    return one.kind.value, one.pool.name, one.subject, one.words


def _count(found: Sequence[Found], what: str) -> str:
    return f"{len(found):,} difference{'s' if len(found) > 1 else ''} {what}"


def _json(one: Difference, problem: str | None) -> dict[str, Any]:
    return {
        "difference": one.kind.value,
        "pool": one.pool.name,
        "tenant": one.tenant,
        "prefix": one.subject,
        "netbox_id": one.netbox_id,
        "words": one.words,
        "repairable": one.repairable,
        "action": one.action,
        "repaired": problem == "",
        "problem": problem or one.failed or None,
    }
