"""The fixtures of other directories that tests of the whole system need."""

import pytest

from tests.api.conftest import context
from tests.cli.conftest import alone, command_server
from tests.devstack.conftest import state
from tests.netbox.conftest import netbox_server, version
from tests.workflows.conftest import authorization, client, faults, orders, settings, worker
from tests.workflows.every_way.table import seen_in, table

__all__ = [
    "alone",
    "authorization",
    "client",
    "command_server",
    "context",
    "faults",
    "netbox_server",
    "orders",
    "settings",
    "state",
    "version",
    "worker",
]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the outcomes of the every-way cases as a table."""
    if seen := seen_in([*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]):
        terminalreporter.section(f"every way a run can go: {len(seen)} runs")
        for line in table(seen):
            terminalreporter.line(line)
