"""A stand-in for GenieACS: an HTTP server that behaves as the recorded NBI of 1.2.16 (`tests/devices/genieacs`).

It has the part of the NBI that Lastmile uses, with simulated CPEs, their sessions and their faults. CPEs speak no CWMP
here: a session is a function call between the ACS's copy of the data model and the CPE.
"""

from lastmile.devstack.genieacs.server import GenieAcsServer

__all__ = ["GenieAcsServer"]
