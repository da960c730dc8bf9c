"""Every invariant, in the order of check and repair."""

from lastmile.audit.address_invariants import ADDRESS_INVARIANTS
from lastmile.audit.device_invariants import DEVICE_INVARIANTS
from lastmile.audit.invariant import Invariant
from lastmile.audit.line_invariants import LINE_INVARIANTS
from lastmile.audit.order_invariants import ORDER_INVARIANTS
from lastmile.audit.session_invariants import SESSION_INVARIANTS, SESSION_NOTICES
from lastmile.audit.suspension_invariants import SUSPENSION_INVARIANTS

__all__ = ["INVARIANTS", "NOTICES", "Invariant"]

INVARIANTS: tuple[Invariant, ...] = (
    *ADDRESS_INVARIANTS,
    *SESSION_INVARIANTS,
    *ORDER_INVARIANTS,
    *LINE_INVARIANTS,
    *SUSPENSION_INVARIANTS,
    *DEVICE_INVARIANTS,
)

NOTICES: tuple[Invariant, ...] = SESSION_NOTICES
"""Findings that `lastmile audit` prints although no invariant is violated. They are not counted and raise no alert."""
