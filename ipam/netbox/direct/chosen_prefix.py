"""One prefix that NetBox chooses (`available-prefixes`) under a key: found where an earlier attempt got it, else new.

NetBox's unique custom field for the key prevents a second record with it. Blocks are acquired likewise.
"""

from collections.abc import Callable
from contextlib import suppress

from ipam.errors import PoolMovedError
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import BoundPool
from ipam.netbox.errors import KeyTakenError, NetBoxError, NetBoxExhaustedError, NetBoxNotFoundError
from ipam.netbox.records import BlockStamp
from ipam.netbox.requirements import NOT_VISIBLE

__all__ = ["RecordElsewhereError", "obtain"]


class RecordElsewhereError(PoolMovedError):
    """NetBox has a record under the key that the pool cannot use: of another pool, or of before the pool was moved."""

    def __init__(self, pool: BoundPool, record: NetBoxRecord) -> None:
        super().__init__(_moved(pool, _gave(pool, record)))
        self.record = record


async def obtain(
    netbox: NetBox,
    pool: BoundPool,
    stamp: Stamp | BlockStamp,
    *,
    length: int,
    fits: Callable[[NetBoxRecord], bool],
    first: bool,
    parent: int | None = None,
) -> NetBoxRecord:
    """Return NetBox's record under the stamp's key; where there is none, have NetBox choose a prefix of this length.

    Args:
        netbox: The client.
        pool: The pool that the prefix is for.
        stamp: What to write on the record, with the key.
        length: Length of the prefix, in bits.
        fits: Whether the pool can use a record.
        first: No attempt was made before, so NetBox has no record under the key.
        parent: NetBox's id of the prefix to choose from. None: the pool's.

    Raises `PoolMovedError`, `RecordElsewhereError` and `NetBoxError`. A retry can help after each `NetBoxError` that is
    no `NonRetryableError`.
    """
    if not first and (found := await _find(netbox, pool, stamp.key, fits)):
        return found
    try:
        chosen = await netbox.available(parent or pool.netbox.prefix_id, length, stamp)
    except (KeyTakenError, NetBoxExhaustedError):
        # An attempt that waited in NetBox when we looked has been served before us.
        if found := await _find(netbox, pool, stamp.key, fits):
            return found
        raise
    except NetBoxNotFoundError:
        raise PoolMovedError(_moved(pool, f"is {NOT_VISIBLE}")) from None
    if not fits(chosen):
        with suppress(NetBoxError):  # the undo, or the next attempt, finds the record by its key
            await netbox.delete(chosen.id)
        raise PoolMovedError(_moved(pool, _gave(pool, chosen)))
    return chosen


async def _find(netbox: NetBox, pool: BoundPool, key: str, fits: Callable[[NetBoxRecord], bool]) -> NetBoxRecord | None:
    found = await netbox.find(key)
    if found is not None and not fits(found):
        raise RecordElsewhereError(pool, found)
    return found


def _gave(pool: BoundPool, record: NetBoxRecord) -> str:
    return f"gave {record.prefix}{'' if record.vrf_id == pool.netbox.vrf_id else ' in another VRF'}"


def _moved(pool: BoundPool, what: str) -> str:
    return (
        f"pool {pool} is prefix {pool.netbox.prefix_id} in NetBox, which {what}. Restore it there, "
        "then run `lastmile pool add` again, just as before"
    )
