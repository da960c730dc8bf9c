"""The text format of an allocation key, which NetBox stores."""

import pytest

from ipam.allocation_key import AllocationKey
from lastmile.contract.addressing import Purpose


def test_key_is_written_and_read_back_as_the_same_key() -> None:
    key = AllocationKey("acme", "S-1", Purpose.IPV6_PD, "O-1")
    assert str(key) == "acme/S-1/ipv6_pd/O-1"
    assert AllocationKey.parse(str(key)) == key


@pytest.mark.parametrize("written", ["", "acme", "somebody's own note", "lastmile/block/home/7/0a1b2c3d"])
def test_key_of_another_form_has_its_first_part_as_tenant_and_never_fails(written: str) -> None:
    assert AllocationKey.parse(written).tenant == written.partition("/")[0]
