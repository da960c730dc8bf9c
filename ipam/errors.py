"""What can be wrong with an allocation, by name. A retry fixes none that is `NonRetryableError`."""

from lastmile.errors import LastmileError, NonRetryableError

__all__ = [
    "AddressTakenError",
    "AllocationSpentError",
    "DelegationBusyError",
    "DelegationMismatchError",
    "ForeignPrefixesError",
    "IllegalTransitionError",
    "InvalidPoolError",
    "NotRevokedError",
    "PoolBusyError",
    "PoolChangingError",
    "PoolExhaustedError",
    "PoolMovedError",
    "UnknownPoolError",
]


class UnknownPoolError(NonRetryableError):
    """No pool of this tenant serves the purpose, length, name or region that was asked for."""


class InvalidPoolError(NonRetryableError):
    """The pool cannot exist as described: its prefix, length or name, or it overlaps another one."""


class ForeignPrefixesError(NonRetryableError):
    """People have a prefix in NetBox where Lastmile's are, or would be."""


class PoolBusyError(NonRetryableError):
    """The pool cannot change now: orders, or NetBox, are at work on it. What was begun stays, and is gone on with."""


class PoolChangingError(LastmileError):
    """The pool is between two modes, for a moment: a retry finds it in one of them."""


class PoolExhaustedError(NonRetryableError):
    """Every slot of every pool that would do is taken or in quarantine."""


class PoolMovedError(NonRetryableError):
    """NetBox does not have the pool's prefix any more where it was when the pool was added."""


class AddressTakenError(NonRetryableError):
    """The address that the order asks for is outside every pool, held by somebody else, or in quarantine."""


class AllocationSpentError(NonRetryableError):
    """The key's delegation was released already: a late attempt must not allocate a second one."""


class DelegationMismatchError(NonRetryableError):
    """The subscriber holds a prefix of this purpose already, of another size or address."""


class DelegationBusyError(NonRetryableError):
    """The subscriber's delegation of this purpose is still being revoked."""


class IllegalTransitionError(NonRetryableError):
    """The lifecycle has no such transition."""


class NotRevokedError(NonRetryableError):
    """A prefix is given back only once its delegation is revoked."""
