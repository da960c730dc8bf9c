"""The modes of a pool: what one has, another has not, in Python and in the table `pools`."""

from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError

from ipam.modes import DatabaseMode, DelegatedMode, DirectMode, OnRelease, PoolMode, ReportingScope, read_mode

MODES = [
    DatabaseMode(),
    DirectMode(prefix_id=1, vrf_id=2, on_release=OnRelease.DELETE),
    DirectMode(prefix_id=1),
    DelegatedMode(prefix_id=1, block_length=44),
    DelegatedMode(prefix_id=1, vrf_id=2, record=ReportingScope.PREFIX, block_length=44),
]

ADD = """
INSERT INTO pools (name, purpose, prefix, delegated_length, first_slot, end_slot, frontier, mode, netbox_prefix_id,
                   netbox_vrf_id, netbox_release, netbox_record, netbox_block_length)
VALUES ('home', 'ipv6_pd', '2001:db8::/40', 56, 0, 65536, 65536, $1, $2, $3, $4, $5, $6)
"""


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_mode_is_read_as_it_was_written(owner: asyncpg.Connection, mode: PoolMode) -> None:
    assert read_mode(mode.model_dump(mode="json")) == mode
    place = mode.columns
    names = ("mode", "prefix_id", "vrf_id", "on_release", "record", "block_length")
    await owner.execute(ADD, *(place[name] for name in names))
    assert read_mode(dict(await owner.fetchrow("SELECT * FROM pool_bindings"))) == mode


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"mode": "database", "prefix_id": 1}, "prefix_id"),
        ({"mode": "direct"}, "prefix_id"),
        ({"mode": "direct", "prefix_id": 1, "record": "prefix"}, "only a delegated pool has blocks"),
        ({"mode": "direct", "prefix_id": 1, "block_length": 44}, "only a delegated pool has blocks"),
        ({"mode": "delegated", "prefix_id": 1}, "block_length"),
        ({"mode": None}, "mode"),
        ({"mode": "sometimes"}, "'sometimes' found using 'mode'"),
    ],
)
def test_mode_with_fields_of_another_mode_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        read_mode(given)


@pytest.mark.parametrize(
    ("mode", "columns"),
    [
        ("database", (1, None, None, None, None)),
        ("database", (None, 2, None, None, None)),
        ("database", (None, None, "deprecate", None, None)),
        ("database", (None, None, None, "block", None)),
        ("database", (None, None, None, None, 44)),
        ("direct", (None, None, "deprecate", None, None)),
        ("direct", (1, None, None, None, None)),
        ("direct", (1, None, "deprecate", "block", None)),
        ("direct", (1, None, "deprecate", None, 44)),
        ("delegated", (None, None, "deprecate", "block", 44)),
        ("delegated", (1, None, None, "block", 44)),
        ("delegated", (1, None, "deprecate", None, 44)),
        ("delegated", (1, None, "deprecate", "block", None)),
    ],
)
async def test_row_with_columns_of_another_mode_is_refused(
    owner: asyncpg.Connection, mode: str, columns: tuple[Any, ...]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="pools_mode"):
        await owner.execute(ADD, mode, *columns)
