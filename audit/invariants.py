"""Every invariant that the audit checks, in the order in which it checks, and repairs, them."""

from audit.address_invariants import ADDRESS_INVARIANTS
from audit.invariant import Invariant
from audit.order_invariants import ORDER_INVARIANTS

__all__ = ["INVARIANTS", "Invariant"]

INVARIANTS: tuple[Invariant, ...] = (*ADDRESS_INVARIANTS, *ORDER_INVARIANTS)
