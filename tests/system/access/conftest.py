"""The client of a provisioning system with a running worker, for tests with a real access network."""

from tests.workflows.conftest import lastmile

__all__ = ["lastmile"]
