"""Attempts of a step that are resumed after another attempt, the undo or the end of the order."""

import asyncio

import pytest

from tests.support.direct_env import PREFIXES, DirectEnv, refusal, until_recorded
from tests.support.held_requests import HeldRequest


async def test_attempt_resumed_after_the_undo_removes_its_record(env: DirectEnv, home: int) -> None:
    await env.begin()
    first = HeldRequest(env.server)
    late = asyncio.create_task(env.allocate())
    await first.reached()
    await env.undo()
    await env.close(status="rolled_back")
    first.resume()
    assert (await refusal(late)).type == "OrderFencedError"
    assert env.records() == []
    assert await env.agree() == []


async def test_attempt_resumed_after_another_succeeded_keeps_its_record(env: DirectEnv, home: int) -> None:
    await env.begin()
    first = HeldRequest(env.server)
    late = asyncio.create_task(env.allocate())
    await first.reached()
    other = asyncio.create_task(env.allocate())
    first.resume()
    results = await asyncio.gather(late, other, return_exceptions=True)
    # The second attempt finds the delegation no longer pending; its retry finds it allocated.
    assert await env.agree() == [result for result in results if isinstance(result, str)]
    assert await env.allocate() in results


async def test_retry_in_a_pool_filled_by_its_first_attempt_succeeds(env: DirectEnv) -> None:
    await env.pool("2001:db8:4000::/55")
    await env.provision("S-0", "O-0")
    await env.begin()
    first = HeldRequest(env.server)
    lost = asyncio.create_task(env.allocate())
    await first.reached()
    lost.cancel()
    await asyncio.wait([lost])
    second = HeldRequest(env.server, before_arrival=True)
    retry = asyncio.create_task(env.allocate())
    await second.reached()  # the retry has searched and found nothing
    first.resume()
    record = await until_recorded(env)
    second.resume()
    assert await retry == record["prefix"]
    assert len(await env.agree()) == 2


@pytest.mark.parametrize("deprovisioned", [False, True])
async def test_attempt_resumed_after_the_order_ended_keeps_the_prefix(
    env: DirectEnv, home: int, deprovisioned: bool
) -> None:
    """The attempt finds the prefix by its key, in use or in quarantine."""
    await env.begin()
    held_up = HeldRequest(env.server, before_arrival=True)
    late = asyncio.create_task(env.allocate())
    await held_up.reached()
    prefix = await env.allocate()
    await env.activate()
    await env.close()
    if deprovisioned:
        await env.deprovision()
    held_up.resume()
    assert (await refusal(late)).type == "OrderFencedError"
    assert await env.agree() == ([] if deprovisioned else [prefix])


async def test_activation_resumed_after_the_undo_shows_the_present_state(env: DirectEnv, home: int) -> None:
    await env.begin()
    await env.allocate()
    held_up = HeldRequest(env.server, "PATCH", PREFIXES, before_arrival=True)
    late = asyncio.create_task(env.activate())
    await held_up.reached()
    await env.run(env.addresses.revoke_ipv6_lifecycle, env.ref("S-1", "O-1", undo=True))
    await env.undo()
    await env.close(status="rolled_back")
    held_up.resume()
    await late
    assert await env.agree() == []


async def test_order_that_takes_over_gets_the_pending_prefix(env: DirectEnv, home: int) -> None:
    """The first run was terminated during its request. Its late attempt must not remove the prefix."""
    await env.begin()
    first = HeldRequest(env.server)
    late = asyncio.create_task(env.allocate())
    await first.reached()
    await env.begin(order="O-2")
    heir = asyncio.create_task(env.allocate(order="O-2"))
    first.resume()
    prefix = await heir
    assert (await refusal(late)).type == "OrderFencedError"
    assert await env.agree() == [prefix]
    assert await env.owner.fetchval("SELECT created_by_order FROM delegations") == "O-2"
