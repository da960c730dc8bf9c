"""Tell failures that the order causes from failures of Lastmile or of another system.

Only the second kind counts against the provisioning objective, which alerts operators (alerts/). The table has every
error that no retry repairs. Every other error is a failure of Lastmile or of another system.
"""

from collections.abc import Mapping
from enum import StrEnum

from ipam import errors as ipam
from ipam.netbox import errors as netbox
from ipam.netbox.delegated.outbox_sync import PrefixOccupiedError
from ipam.netbox.direct.chosen_prefix import RecordElsewhereError
from ipam.netbox.importer.scan import UnknownFieldError
from lastmile.devices.errors import AmbiguousDeviceError, ControllerRefusedError
from lastmile.errors import NonRetryableError
from lastmile.radius.attributes import InvalidAttributeError
from lastmile.radius.dynauth import InvalidNasError
from lastmile.radius.errors import (
    AccountConflictError,
    GivenPasswordError,
    InvalidTemplateError,
    NasConflictError,
    NasInUseError,
    TemplateInUseError,
    UnknownNasError,
    UnknownTemplateError,
)
from lastmile.subscribers import errors as subscribers

__all__ = ["VERDICTS", "Verdict", "verdict_on"]


class Verdict(StrEnum):
    """Why an order could not be done."""

    REFUSED = "refused"
    """The caller must change the order, or wait for another order of the same subscriber."""
    FAILED = "failed"
    """An operator must change something: add a pool, repair a peer or the configuration."""


VERDICTS: Mapping[type[NonRetryableError], Verdict] = {
    subscribers.UnknownTenantError: Verdict.REFUSED,
    subscribers.UnknownSubscriberError: Verdict.REFUSED,
    subscribers.UnknownCustomerError: Verdict.REFUSED,
    subscribers.CustomerInServiceError: Verdict.REFUSED,
    subscribers.CustomerBusyError: Verdict.REFUSED,
    subscribers.RecordConflictError: Verdict.REFUSED,
    subscribers.LineDiffersError: Verdict.REFUSED,
    subscribers.LineStateError: Verdict.REFUSED,
    subscribers.OrderConflictError: Verdict.REFUSED,
    subscribers.OrderFencedError: Verdict.FAILED,
    subscribers.TenantInUseError: Verdict.FAILED,
    ipam.UnknownPoolError: Verdict.REFUSED,
    ipam.AddressTakenError: Verdict.REFUSED,
    ipam.DelegationMismatchError: Verdict.REFUSED,
    ipam.DelegationBusyError: Verdict.REFUSED,
    ipam.NothingToReplaceError: Verdict.REFUSED,
    ipam.PoolExhaustedError: Verdict.FAILED,
    ipam.PoolMovedError: Verdict.FAILED,
    ipam.PoolBusyError: Verdict.FAILED,
    ipam.ForeignPrefixesError: Verdict.FAILED,
    ipam.InvalidPoolError: Verdict.FAILED,
    ipam.AllocationSpentError: Verdict.FAILED,
    ipam.IllegalTransitionError: Verdict.FAILED,
    ipam.NotRevokedError: Verdict.FAILED,
    RecordElsewhereError: Verdict.FAILED,
    PrefixOccupiedError: Verdict.FAILED,
    UnknownFieldError: Verdict.FAILED,
    netbox.NetBoxNotFoundError: Verdict.FAILED,
    netbox.NetBoxExhaustedError: Verdict.FAILED,
    netbox.NetBoxInvalidError: Verdict.FAILED,
    AmbiguousDeviceError: Verdict.FAILED,
    ControllerRefusedError: Verdict.FAILED,
    AccountConflictError: Verdict.REFUSED,
    GivenPasswordError: Verdict.FAILED,
    NasConflictError: Verdict.FAILED,
    NasInUseError: Verdict.FAILED,
    UnknownNasError: Verdict.FAILED,
    InvalidNasError: Verdict.FAILED,
    InvalidAttributeError: Verdict.FAILED,
    InvalidTemplateError: Verdict.FAILED,
    TemplateInUseError: Verdict.FAILED,
    UnknownTemplateError: Verdict.FAILED,
}

_BY_NAME = {failure.__name__: verdict for failure, verdict in VERDICTS.items()}


def verdict_on(kind: str) -> Verdict:
    """The verdict on a failure by the name of its type, as the workflow knows it."""
    return _BY_NAME.get(kind, Verdict.FAILED)
