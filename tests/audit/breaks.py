"""Changes of the database, each of which breaks an invariant of the audit."""

from dataclasses import dataclass

__all__ = ["IN_NETBOX", "Break"]


@dataclass(frozen=True)
class Break:
    """A change that breaks an invariant, and the expected finding."""

    invariant: str
    by: str
    subject: str
    words: str
    repaired: bool = False
    also: tuple[str, ...] = ()
    """The other invariants that the same change breaks."""


# A direct pool with a delegation of S-1.
IN_NETBOX = """
INSERT INTO pools (tenant_id, name, purpose, prefix, delegated_length, first_slot, end_slot, frontier,
                   mode, netbox_prefix_id, netbox_release)
    VALUES ('acme', 'there', 'ipv6_framed', '2001:db8:4000::/48', 64, 0, 65536, 0, 'direct', 1, 'deprecate');
INSERT INTO delegations (tenant_id, pool_id, prefix, subscriber_ref, purpose, allocation_key, created_by_order, state)
    SELECT 'acme', id, {prefix}, 'S-1', purpose, 'there', 'O-1', '{state}' FROM pools WHERE name = 'there'
"""
