"""The fixtures of other directories that tests of the whole system need."""

from tests.cli.conftest import alone, command_server
from tests.devstack.conftest import state
from tests.workflows.conftest import authorization, client, faults, orders, settings, worker

__all__ = [
    "alone",
    "authorization",
    "client",
    "command_server",
    "faults",
    "orders",
    "settings",
    "state",
    "worker",
]
