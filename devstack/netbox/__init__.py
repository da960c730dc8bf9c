"""A stand-in for NetBox 4.4: an HTTP server that behaves as the recorded contract (`tests/netbox/contract.jsonl`).

It has the part of NetBox's REST API that Lastmile uses, with its errors, its races and its lock, and on demand its
costs and its faults. See docs/netbox.md.
"""

from devstack.netbox.server import NetBoxServer

__all__ = ["NetBoxServer"]
