"""What a provisioning system is told where there is nothing to cancel, or nobody to ask."""

import pytest

from tests.workflows.world import Orders
from workflows.client import Lastmile, NotRunning
from workflows.connection import Unreachable, connect


async def test_there_is_nothing_to_cancel_once_the_run_has_ended(lastmile: Lastmile, orders: Orders) -> None:
    """Temporal takes the cancel of a closed run without a word."""
    await lastmile.execute(orders.provision())

    with pytest.raises(NotRunning, match=f"no order of subscriber {orders.ref} is running"):
        await lastmile.cancel("acme", orders.ref)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", r"no Temporal server answers at 127\.0\.0\.1:1 \(Connection refused\): start one"),
        ("no.such.host.invalid:7233", r"no Temporal server answers at no\.such\.host\.invalid:7233 \("),
        ("two words:7233", r"no Temporal server answers at two words:7233 \(invalid"),
    ],
)
async def test_a_server_that_does_not_answer_is_named_in_plain_words(address: str, words: str) -> None:
    with pytest.raises(Unreachable, match=words) as failure:
        await connect({"TEMPORAL_ADDRESS": address})

    assert "tonic" not in str(failure.value)
    assert "Error(" not in str(failure.value)
