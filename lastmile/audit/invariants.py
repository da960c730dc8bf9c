"""Every invariant that the audit checks, in the order in which it checks, and repairs, them."""

from lastmile.audit.address_invariants import ADDRESS_INVARIANTS
from lastmile.audit.invariant import Invariant
from lastmile.audit.order_invariants import ORDER_INVARIANTS
from lastmile.audit.session_invariants import SESSION_INVARIANTS, SESSION_NOTICES

__all__ = ["INVARIANTS", "NOTICES", "Invariant"]

INVARIANTS: tuple[Invariant, ...] = (*ADDRESS_INVARIANTS, *SESSION_INVARIANTS, *ORDER_INVARIANTS)

NOTICES: tuple[Invariant, ...] = SESSION_NOTICES
"""What `lastmile audit` names, though no promise is broken: it is not counted, and raises no alert."""
