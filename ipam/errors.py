"""The errors of allocation and of pools. No retry repairs a `NonRetryableError`."""

from lastmile.errors import NonRetryableError, OutageError

__all__ = [
    "AddressTakenError",
    "AllocationSpentError",
    "DelegationBusyError",
    "DelegationMismatchError",
    "ForeignPrefixesError",
    "IllegalTransitionError",
    "InvalidPoolError",
    "NotRevokedError",
    "NothingToReplaceError",
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
    """A foreign prefix in NetBox overlaps a prefix or a block of Lastmile, or one that it needs."""


class PoolBusyError(NonRetryableError):
    """The pool cannot change now: orders or NetBox are working on it. Repeating the change continues it."""


class PoolChangingError(OutageError):
    """The pool is closed while its NetBox mode changes: the order waits until it is open again."""


class PoolExhaustedError(NonRetryableError):
    """Every slot of every pool that would do is taken or in quarantine."""


class PoolMovedError(NonRetryableError):
    """NetBox does not have the pool's prefix where it was when the pool was added."""


class AddressTakenError(NonRetryableError):
    """The address that the order asks for is held by another subscriber, in quarantine, or not a host address."""


class AllocationSpentError(NonRetryableError):
    """The delegation of this key was released: a late attempt must not allocate a second one."""


class DelegationMismatchError(NonRetryableError):
    """The subscriber holds a prefix of this purpose already, of another size or address."""


class DelegationBusyError(NonRetryableError):
    """The subscriber's delegation of this purpose is still being revoked."""


class IllegalTransitionError(NonRetryableError):
    """The lifecycle has no such transition."""


class NothingToReplaceError(NonRetryableError):
    """The subscriber has no prefix of the purpose that a new one could replace."""


class NotRevokedError(NonRetryableError):
    """A delegation must be revoked before it is released."""
