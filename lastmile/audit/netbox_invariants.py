"""What must hold between NetBox and the database (DESIGN section 4: 4): compared with NetBox itself, not by a query."""

from collections.abc import AsyncIterator

from ipam.netbox import NetBox
from ipam.netbox.reconcile.differences import RULES, Difference
from ipam.netbox.reconcile.run import differences
from lastmile.audit.audit import Violation
from lastmile.audit.invariant import Invariant
from lastmile.db import Database

__all__ = ["check_netbox"]


async def check_netbox(database: Database, netbox: NetBox, tenant: str | None = None) -> AsyncIterator[Violation]:
    """Every difference between NetBox and the database, as a violation; with `tenant`, what may concern it.

    Reads what has changed since the last time. Raises `NetBoxError`: then it is unknown whether there is more.
    """
    async for one in differences(database, netbox):
        if tenant is None or one.tenant in (None, tenant):
            yield _violation(one)


def _violation(one: Difference) -> Violation:
    remedy = one.advice("`lastmile netbox reconcile --repair`")
    invariant = Invariant(one.kind.value, 4, RULES[one.kind].meaning, query="", remedy=remedy)
    return Violation(invariant, one.tenant, one.subject, one.words, one.key or str(one.netbox_id))
