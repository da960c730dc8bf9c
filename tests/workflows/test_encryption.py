"""What Temporal keeps of an order: nothing that a stranger could read, once there are keys."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from db import Database
from devstack.temporal import DevTemporal
from encryption.codec import data_converter
from encryption.keys import KeyRing, NotDecrypted
from radius.dynauth import DynamicAuthorization
from settings import Settings
from tests.workflows.faults import Faults
from tests.workflows.world import Orders, parked
from worker import build_worker
from workflows.client import Lastmile, OrderRun
from workflows.contract import Decision, OrderResult, ResultStatus

RING = KeyRing({"k1": bytes(range(32))})
SECRETS = {
    "name": "Ada Example",
    "e-mail": "ada@example.net",
    "MAC": "00:1a:2b:00:00:00",
    "ONU": "ACME00000000",
    "prefix": "2001:db8:",
    "an operator's words": "Ada called",
    "words of a failure": "no such shelf",
}


async def shelfless() -> None:
    """A failure whose words tell too much."""
    raise ApplicationError("no such shelf for ada@example.net", type="Scripted", non_retryable=True)


@dataclass
class Place:
    """A Temporal with a database file, and a worker on it."""

    temporal: DevTemporal
    file: Path
    faults: Faults
    settings: Settings
    database: Database
    authorization: DynamicAuthorization

    async def client(self, keys: KeyRing | None) -> Client:
        return await Client.connect(
            self.temporal.address, data_converter=data_converter(keys), interceptors=[self.faults]
        )

    def worker(self, client: Client) -> Worker:
        return build_worker(client, self.settings, self.database, self.authorization)

    def lastmile(self, client: Client) -> Lastmile:
        return Lastmile(client, task_queue=self.settings.task_queue)


@pytest.fixture
async def place(
    tmp_path: Path,
    temporal_program: Path,
    faults: Faults,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
) -> AsyncIterator[Place]:
    file = tmp_path / "temporal.db"
    async with DevTemporal(tmp_path, program=temporal_program, database=file) as temporal:
        yield Place(temporal, file, faults, settings, database, authorization)


async def traffic(place: Place, orders: Orders, keys: KeyRing | None) -> None:
    """A line that comes and goes, one that is rolled back and parks, and one that waits for its date."""
    client = await place.client(keys)
    lastmile = place.lastmile(client)
    async with place.worker(client):
        await lastmile.execute(orders.provision())
        await lastmile.execute(orders.deprovision())
        place.faults.before["create_billing_service"] = place.faults.before["release_ip_address"] = shelfless
        run = await lastmile.start(orders.provision("O-2"))
        await parked(run)
        await lastmile.steer("acme", orders.ref, "abandon", Decision(by="noc-7", why="Ada called"))
        assert (await run.result()).status is ResultStatus.ABANDONED
        place.faults.before.clear()
        await lastmile.start(orders.provision("O-3", 1, not_before=datetime.now(UTC) + timedelta(days=9)))


def found(place: Place) -> set[str]:
    """Which of the secrets the files of Temporal's database hold, in whatever case."""
    kept = b"".join(file.read_bytes() for file in place.file.parent.glob("temporal.db*")).lower()
    return {what for what, words in SECRETS.items() if words.lower().encode() in kept}


async def test_temporals_database_holds_nothing_personal(place: Place, orders: Orders) -> None:
    await traffic(place, orders, RING)
    assert found(place) == set()


async def test_without_keys_it_holds_all_of_it(place: Place, orders: Orders) -> None:
    """What the search above is worth."""
    await traffic(place, orders, None)
    assert found(place) == set(SECRETS)


async def test_a_run_goes_on_through_switching_on_and_a_rotation(place: Place, orders: Orders) -> None:
    plain = await place.client(None)
    place.faults.before["create_billing_service"] = place.faults.before["release_ip_address"] = shelfless
    async with place.worker(plain):
        run = await place.lastmile(plain).start(orders.provision())
        await parked(run)
    old, new = {"k1": bytes(range(32))}, {"k2": bytes(32)}
    for ring in (KeyRing(old), KeyRing(old | new), KeyRing(new | old)):
        client = await place.client(ring)
        lastmile = place.lastmile(client)
        async with place.worker(client):
            await lastmile.steer("acme", orders.ref, "retry_step", Decision(by="noc-7", why="once more"))
            run = OrderRun(run.order, client.get_workflow_handle(run.handle.id, result_type=OrderResult))
            assert (await parked(run)).step == "allocate_ip_address"
    place.faults.before.clear()
    async with place.worker(client):
        await lastmile.steer("acme", orders.ref, "retry_step", Decision(by="noc-7", why="mended"))
        assert (await run.result()).status is ResultStatus.ROLLED_BACK


async def test_who_lacks_the_key_is_told_so(place: Place, orders: Orders) -> None:
    client = await place.client(RING)
    async with place.worker(client):
        run = await place.lastmile(client).start(orders.provision())
        await run.result()
    for keys, words in (
        (None, "key 'k1', and LASTMILE_ENCRYPTION_KEYS is not set here"),
        (KeyRing({"k2": bytes(32)}), "key 'k1', which LASTMILE_ENCRYPTION_KEYS does not have"),
    ):
        stranger = await place.client(keys)
        with pytest.raises(NotDecrypted, match=words):
            await stranger.get_workflow_handle(run.handle.id, result_type=OrderResult).result()
