"""A stand-in for VOLTHA's core: a gRPC server that behaves as the recorded contracts (`tests/devices/voltha`).

The stand-in has the part of the core's interface that Lastmile uses, with OLTs, ONUs that are plugged in, lose power or
are deleted, flows that the core accepts and takes back, and faults. It needs the extra `voltha`.
"""

from lastmile.devstack.voltha.model import Faults, RpcError, VolthaModel
from lastmile.devstack.voltha.server import VolthaServer

__all__ = ["Faults", "RpcError", "VolthaModel", "VolthaServer"]
