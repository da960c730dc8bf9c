"""The mapping in docs/development/adding-a-webhook-mapping.md does what the page says."""

import pytest

from lastmile.contract.line_states import LineState
from lastmile.services.hooks.mapping import Ignored, LineFacts, UnmappableError
from tests.support.hooks import documented_mapping


def test_documented_mapping_suspends_and_resumes() -> None:
    mapping = documented_mapping()
    unpaid = {"id": "e1", "type": "unpaid", "contract": "S-1"}
    suspend = {"operation": "suspend", "subscriber_ref": "S-1", "mode": "slow", "reason": "unpaid"}
    assert mapping.to_orders(unpaid, LineFacts(LineState.IN_SERVICE)) == [suspend]
    paid = unpaid | {"type": "paid"}
    resume = {"operation": "resume", "subscriber_ref": "S-1"}
    assert mapping.to_orders(paid, LineFacts(LineState.SUSPENDED)) == [resume]
    assert isinstance(mapping.to_orders(paid, LineFacts(LineState.IN_SERVICE)), Ignored)
    assert isinstance(mapping.to_orders({}, LineFacts(None)), Ignored)
    with pytest.raises(UnmappableError, match="names no contract"):
        mapping.to_orders({"type": "paid"}, LineFacts(None))
