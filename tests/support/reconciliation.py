"""What reconciliation finds, in short, and what it leaves after it has repaired."""

from ipam.netbox.reconcile.differences import Difference, DifferenceKind
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.reconcile.run import differences
from tests.support.direct_env import Kept

__all__ = ["found", "kinds", "repaired"]


async def found(kept: Kept, *, everything: bool = False, page: int = 500) -> list[Difference]:
    return [one async for one in differences(kept.database, kept.netbox, everything=everything, page=page)]


async def kinds(kept: Kept, *, everything: bool = False, page: int = 500) -> list[tuple[DifferenceKind, str]]:
    """Kinds and prefixes."""
    return sorted((one.kind, one.subject) for one in await found(kept, everything=everything, page=page))


async def repaired(kept: Kept, *, everything: bool = False) -> list[str]:
    """Repair all that is found, and see that a second run finds nothing; why each was not repaired, or empty."""
    problems = [await repair(kept.database, kept.netbox, one) for one in await found(kept, everything=everything)]
    if not any(problems):
        assert await kinds(kept) == []
        assert await kinds(kept, everything=True) == []
    return problems
