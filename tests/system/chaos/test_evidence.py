"""The queries after a chaos run find violations."""

import asyncpg
import pytest

from tests.system.chaos.evidence import broken

LEAKED = "INSERT INTO slots (pool_id, slot, tenant_id, delegation_id) SELECT id, 7, 'acme', 999 FROM pools LIMIT 1"
ONLY_IN_RADIUS = (
    "INSERT INTO radreply (username, attribute, op, value)"
    " VALUES ('S-1@acme.lastmile', 'Delegated-IPv6-Prefix', ':=', '2001:db8::/56')"
)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("statement", "query"),
    [
        (LEAKED, "a slot is taken without delegation, or a delegation has no slot"),
        (ONLY_IN_RADIUS, "RADIUS and the active delegations differ"),
    ],
)
async def test_evidence_of_a_broken_row_names_the_query(owner: asyncpg.Connection, statement: str, query: str) -> None:
    assert await broken(owner) == {}
    await owner.execute(statement)
    assert set(await broken(owner)) == {query}
