"""A stand-in for NetBox: an HTTP server that behaves as the recorded contracts of 4.4 and 4.6 (`tests/netbox`).

It has the part of NetBox's REST API that Lastmile uses, with the same errors, race conditions and lock. Latency and
faults can be switched on. See docs/development/netbox-stand-in.md.
"""

from lastmile.devstack.netbox.http.server import NetBoxServer

__all__ = ["NetBoxServer"]
