"""Which tests of a parallel run stay together in one process, and which run first.

The mark `xdist_group` has no effect: pytest-xdist 3.8 writes the group to a place that pytest 9.2 does not read.
"""

import re

import pytest
from xdist.scheduler import LoadScopeScheduling

__all__ = ["GroupScheduling", "group_of", "put_long_ones_first"]

_SHARED = re.compile(
    r"tests/system/("
    r"test_every_way\.py::test_every_way\["
    r"|test_every_way_with_netbox\.py::\w+\[(direct|delegated)-"
    r"|test_every_way_with_netbox\.py::test_every_way_while_netbox_is_away\["
    r"|grafana/test_queries\.py::"
    r"|packaging/test_installed\.py::"
    r")"
)
"""The tests that share an expensive fixture: what matches is the name of their group."""

_LONG = re.compile(
    r"tests/("
    r"alerts/test_rules\.py::test_each_case_"
    r"|test_worker\.py::"
    r"|workflows/test_opposites\.py::"
    r"|ipam/test_allocation_machine\.py::"
    r"|system/chaos/"
    r"|system/packaging/test_pythons\.py::"
    r"|system/test_audit_scale\.py::"
    r"|system/test_client_end\.py::"
    r"|system/test_demo\.py::"
    r"|system/test_mutants\.py::"
    r"|system/test_waiting_lines\.py::"
    r")"
)
"""The tests that take longest. At the end of a run, one of them would keep one process busy and the others idle."""


def put_long_ones_first(items: list[pytest.Item]) -> None:
    """Reorder the tests; otherwise the order stays."""
    items.sort(key=lambda item: _LONG.match(item.nodeid) is None)


def group_of(nodeid: str) -> str:
    """Return the group of a test; by itself, a test is a group of one."""
    shared = _SHARED.match(nodeid)
    return shared[0] if shared else nodeid


class GroupScheduling(LoadScopeScheduling):
    """Gives a group of tests to one process, the largest groups first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
