"""What can be wrong with an allocation, by name. A retry fixes none that is `Refused`."""

from lastmile.errors import Refused

__all__ = [
    "AddressTaken",
    "AllocationSpent",
    "DelegationBusy",
    "DelegationMismatch",
    "IllegalTransition",
    "InvalidPool",
    "NoSuchPool",
    "NotRevoked",
    "PeopleThere",
    "PoolBusy",
    "PoolChanging",
    "PoolExhausted",
    "PoolMoved",
]


class NoSuchPool(Refused):
    """No pool of this tenant serves the purpose, length, name or region that was asked for."""


class InvalidPool(Refused):
    """The pool cannot exist as described: its prefix, length or name, or it overlaps another one."""


class PeopleThere(Refused):
    """People have a prefix in NetBox where Lastmile's are, or would be."""


class PoolBusy(Refused):
    """The pool cannot change now: orders, or NetBox, are at work on it. What was begun stays, and is gone on with."""


class PoolChanging(Exception):
    """The pool is between two modes, for a moment: a retry finds it in one of them."""


class PoolExhausted(Refused):
    """Every slot of every pool that would do is taken or in quarantine."""


class PoolMoved(Refused):
    """NetBox does not have the pool's prefix any more where it was when the pool was added."""


class AddressTaken(Refused):
    """The address that the order asks for is outside every pool, held by somebody else, or in quarantine."""


class AllocationSpent(Refused):
    """The key's delegation was released already: a late attempt must not allocate a second one."""


class DelegationMismatch(Refused):
    """The subscriber holds a prefix of this purpose already, of another size or address."""


class DelegationBusy(Refused):
    """The subscriber's delegation of this purpose is still being revoked."""


class IllegalTransition(Refused):
    """The lifecycle has no such transition."""


class NotRevoked(Refused):
    """A prefix is given back only once its delegation is revoked."""
