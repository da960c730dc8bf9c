"""NetBox, where the operator sees and owns address space: the client, and what a NetBox must have.

The traps that this walks around were measured on a NetBox 4.4: see docs/operations/netbox.md.
"""

from ipam.netbox.client import NetBox
from ipam.netbox.records import NetBoxRecord, Stamp

__all__ = ["NetBox", "NetBoxRecord", "Stamp"]
