"""The invariants between NetBox and the database (rule 4), checked by comparison with NetBox itself."""

from collections.abc import AsyncIterator

from ipam.netbox import NetBox
from ipam.netbox.reconcile.differences import RULES, Difference
from ipam.netbox.reconcile.run import differences
from lastmile.audit.audit import Violation
from lastmile.audit.invariant import Invariant
from lastmile.db import Database

__all__ = ["check_netbox"]


async def check_netbox(database: Database, netbox: NetBox, tenant: str | None = None) -> AsyncIterator[Violation]:
    """Yield every difference between NetBox and the database as a violation.

    With `tenant`, omit differences that belong to another tenant. Reads only what changed in NetBox since the last run.

    Raises:
        NetBoxError: the comparison is incomplete, and more differences may exist.
    """
    async for difference in differences(database, netbox):
        if tenant is None or difference.tenant in (None, tenant):
            yield _to_violation(difference)


def _to_violation(difference: Difference) -> Violation:
    remedy = difference.advice("`lastmile netbox reconcile --repair`")
    invariant = Invariant(difference.kind.value, 4, RULES[difference.kind].meaning, query="", remedy=remedy)
    key = difference.key or str(difference.netbox_id)
    return Violation(invariant, difference.tenant, difference.subject, difference.words, key)
