"""What Lastmile writes on the record of a delegation, said in one place."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest

from ipam.delegations import Delegation
from ipam.lifecycle import State
from ipam.netbox import Stamp
from lastmile.contract.addressing import Purpose

ROOT = Path(__file__).parents[2]

ACTIVE = Delegation(
    id=1,
    tenant="acme",
    pool_id=2,
    slot=None,
    prefix=ip_network("2001:db8::/56"),
    netbox_id=3,
    subscriber_ref="S-1",
    purpose=Purpose.IPV6_PD,
    key="acme/S-1/ipv6_pd/O-1",
    created_by_order="O-1",
    state=State.ACTIVE,
    state_since=datetime(2026, 11, 30, tzinfo=UTC),
    disconnect_confirmed=None,
    released_at=None,
    vrf="",
)


@pytest.mark.parametrize(
    ("state", "words"), [(State.ACTIVE, "is S-1's (Lastmile)"), (State.REVOKED, "in quarantine, was S-1's (Lastmile)")]
)
def test_stamp_says_who_holds_the_prefix_in_the_state_of_the_delegation(state: State, words: str) -> None:
    stamp = Stamp.of(replace(ACTIVE, state=state))
    assert stamp == Stamp(
        key="acme/S-1/ipv6_pd/O-1", subscriber_ref="S-1", state=state, tenant="acme", description=words
    )
    assert stamp == Stamp.of(ACTIVE, state), "the state that it is about to have"


def test_no_module_of_the_product_builds_a_stamp_by_itself() -> None:
    sources = [path for package in ("ipam", "lastmile") for path in (ROOT / package).rglob("*.py")]
    building = re.compile(r"(?<!class )\bStamp\(")
    assert [str(path) for path in sources if building.search(path.read_text(encoding="utf-8"))] == []
