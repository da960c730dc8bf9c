"""What reconciliation finds, in short, and what it leaves after it has mended."""

from ipam.differences import Difference, Kind
from ipam.mending import mend
from ipam.reconcile import differences
from tests.netbox.kept import Kept

__all__ = ["found", "kinds", "mended"]


async def found(kept: Kept, *, everything: bool = False, page: int = 500) -> list[Difference]:
    return [one async for one in differences(kept.database, kept.netbox, everything=everything, page=page)]


async def kinds(kept: Kept, *, everything: bool = False, page: int = 500) -> list[tuple[Kind, str]]:
    """Kinds and prefixes."""
    return sorted((one.kind, one.subject) for one in await found(kept, everything=everything, page=page))


async def mended(kept: Kept, *, everything: bool = False) -> list[str]:
    """Mend all that is found, and see that a second run finds nothing; why each was not mended, or empty."""
    problems = [await mend(kept.database, kept.netbox, one) for one in await found(kept, everything=everything)]
    if not any(problems):
        assert await kinds(kept) == []
        assert await kinds(kept, everything=True) == []
    return problems
