"""A stand-in for an account at SmartOLT: an HTTP server that answers as public clients of its API expect.

It was never compared with SmartOLT: docs/operations/controllers/smartolt.md says what is known.
"""

from lastmile.devstack.smartolt.server import SmartOltServer

__all__ = ["SmartOltServer"]
