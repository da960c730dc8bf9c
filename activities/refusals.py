"""Which failures refuse an order because the order is wrong, and which mean that Lastmile did not do its work.

Only failures of the second kind count against the provisioning objective, which pages people (alerts/). The table
decides for every type of failure that no retry repairs. Every other type is a failure of Lastmile or of a peer.
"""

from collections.abc import Mapping
from enum import StrEnum

from ipam import errors as ipam
from ipam.netbox import errors as netbox
from ipam.netbox.delegated.outbox_sync import Occupied
from ipam.netbox.direct.allocator import Elsewhere
from ipam.netbox.importer.scan import NoSuchField
from lastmile.errors import Refused
from lastmile.radius.attributes import InvalidAttribute
from lastmile.radius.dynauth import InvalidNas
from lastmile.radius.errors import AccountConflict, NasConflict, NasInUse, UnknownNas
from lastmile.subscribers import errors as subscribers

__all__ = ["VERDICTS", "Verdict", "verdict_on"]


class Verdict(StrEnum):
    """Why an order could not be done."""

    REFUSED = "refused"
    """The caller must change the order, or wait for another order of the same subscriber."""
    FAILED = "failed"
    """An operator must change something: add a pool, repair a peer or the configuration."""


VERDICTS: Mapping[type[Refused], Verdict] = {
    subscribers.UnknownTenant: Verdict.REFUSED,
    subscribers.UnknownSubscriber: Verdict.REFUSED,
    subscribers.Conflict: Verdict.REFUSED,
    subscribers.LineDiffers: Verdict.REFUSED,
    subscribers.OrderConflict: Verdict.REFUSED,
    subscribers.OrderFenced: Verdict.FAILED,
    subscribers.TenantInUse: Verdict.FAILED,
    ipam.NoSuchPool: Verdict.REFUSED,
    ipam.AddressTaken: Verdict.REFUSED,
    ipam.DelegationMismatch: Verdict.REFUSED,
    ipam.DelegationBusy: Verdict.REFUSED,
    ipam.PoolExhausted: Verdict.FAILED,
    ipam.PoolMoved: Verdict.FAILED,
    ipam.PoolBusy: Verdict.FAILED,
    ipam.PeopleThere: Verdict.FAILED,
    ipam.InvalidPool: Verdict.FAILED,
    ipam.AllocationSpent: Verdict.FAILED,
    ipam.IllegalTransition: Verdict.FAILED,
    ipam.NotRevoked: Verdict.FAILED,
    Elsewhere: Verdict.FAILED,
    Occupied: Verdict.FAILED,
    NoSuchField: Verdict.FAILED,
    netbox.NotFound: Verdict.FAILED,
    netbox.Exhausted: Verdict.FAILED,
    netbox.Invalid: Verdict.FAILED,
    AccountConflict: Verdict.REFUSED,
    NasConflict: Verdict.FAILED,
    NasInUse: Verdict.FAILED,
    UnknownNas: Verdict.FAILED,
    InvalidNas: Verdict.FAILED,
    InvalidAttribute: Verdict.FAILED,
}

_BY_NAME = {failure.__name__: verdict for failure, verdict in VERDICTS.items()}


def verdict_on(kind: str) -> Verdict:
    """The verdict on a failure by the name of its type, as the workflow knows it."""
    return _BY_NAME.get(kind, Verdict.FAILED)
