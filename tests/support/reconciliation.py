"""Run reconciliation: its differences in short form, and its repairs."""

from ipam.netbox.reconcile.differences import Difference, DifferenceKind
from ipam.netbox.reconcile.repair import repair
from ipam.netbox.reconcile.run import differences
from tests.support.direct_env import DirectEnv

__all__ = ["found", "kinds", "repaired"]


async def found(env: DirectEnv, *, everything: bool = False, page: int = 500) -> list[Difference]:
    return [one async for one in differences(env.database, env.netbox, everything=everything, page=page)]


async def kinds(env: DirectEnv, *, everything: bool = False, page: int = 500) -> list[tuple[DifferenceKind, str]]:
    """Return the kinds and prefixes of the differences."""
    return sorted((one.kind, one.subject) for one in await found(env, everything=everything, page=page))


async def repaired(env: DirectEnv, *, everything: bool = False) -> list[str]:
    """Repair every difference; a second run must find none. Return why each was not repaired, or an empty text."""
    problems = [await repair(env.database, env.netbox, one) for one in await found(env, everything=everything)]
    if not any(problems):
        assert await kinds(env) == []
        assert await kinds(env, everything=True) == []
    return problems
