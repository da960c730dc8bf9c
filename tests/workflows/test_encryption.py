"""The encryption of orders in Temporal: with keys, its database contains no readable personal data."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from temporalio.client import (
    Client,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker

from lastmile.client.availability import is_stuck
from lastmile.client.errors import RunStuckError
from lastmile.client.operator_client import OperatorClient
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.client.parked_runs import parked_runs
from lastmile.client.schedules.manager import WRITTEN, CreateOutcome, ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES
from lastmile.client.schedules.retry import ScheduleRetryInterceptor
from lastmile.client.subscriber_orders import find_subscriber_orders
from lastmile.contract import Cleanup, Decision, OrderResult, ProvisionSubscriber, ResultStatus, Urgency
from lastmile.db import Database
from lastmile.devstack.temporal import DevTemporal
from lastmile.encryption.codec import KEY_ID, data_converter
from lastmile.encryption.keys import DecryptionError, KeyRing
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.faults import Faults
from tests.support.orders import Orders, parked

OLD, NEW = {"k1": bytes(range(32))}, {"k2": bytes(32)}
RING = KeyRing(OLD)
ROTATION = (RING, KeyRing(OLD | NEW), KeyRing(NEW | OLD), KeyRing(NEW))
CLEANUP, AUDIT = SCHEDULES[0], SCHEDULES[2]
AT_FIVE = ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(5)])])
SECRETS = {
    "name": "Ada Example",
    "e-mail": "ada@example.net",
    "MAC": "00:1a:2b:00:00:00",
    "ONU": "ACME00000000",
    "prefix": "2001:db8:",
    "an operator's words": "Ada called",
    "words of a failure": "no such port",
}


async def fail_with_personal_data() -> None:
    """Fail with a message that contains personal data."""
    raise ApplicationError("no such port for ada@example.net", type="Scripted", non_retryable=True)


@dataclass
class EncryptedStack:
    """A Temporal server with a database file, and clients and workers for it."""

    temporal: DevTemporal
    file: Path
    faults: Faults
    settings: Settings
    database: Database
    authorization: DynamicAuthorization

    async def client(self, keys: KeyRing | None) -> Client:
        return await Client.connect(
            self.temporal.address,
            data_converter=data_converter(keys),
            interceptors=[ScheduleRetryInterceptor(), self.faults],
        )

    def worker(self, client: Client) -> Worker:
        return build_worker(client, self.settings, self.database, self.authorization)

    async def manager(self, keys: KeyRing | None) -> ScheduleManager:
        return ScheduleManager(await self.client(keys), self.settings.task_queue)

    def lastmile(self, client: Client) -> Lastmile:
        return Lastmile(client, task_queue=self.settings.task_queue)


@pytest.fixture
async def stack(
    tmp_path: Path,
    temporal_program: Path,
    faults: Faults,
    settings: Settings,
    database: Database,
    authorization: DynamicAuthorization,
) -> AsyncIterator[EncryptedStack]:
    file = tmp_path / "temporal.db"
    async with DevTemporal(tmp_path, program=temporal_program, database=file) as temporal:
        yield EncryptedStack(temporal, file, faults, settings, database, authorization)


async def traffic(stack: EncryptedStack, orders: Orders, keys: KeyRing | None) -> None:
    """Run a provision and a deprovision, an order that parks and is abandoned, and schedule a further order."""
    client = await stack.client(keys)
    lastmile = stack.lastmile(client)
    async with stack.worker(client):
        await lastmile.execute(orders.provision())
        await lastmile.execute(orders.deprovision())
        stack.faults.before["create_billing_service"] = stack.faults.before["release_ip_address"] = (
            fail_with_personal_data
        )
        run = await lastmile.start(orders.provision("O-2"))
        await parked(run)
        await lastmile.decide("acme", orders.ref, "abandon", Decision(by="noc-7", why="Ada called"))
        assert (await run.result()).status is ResultStatus.ABANDONED
        stack.faults.before.clear()
        await lastmile.start(orders.provision("O-3", 1, not_before=datetime.now(UTC) + timedelta(days=9)))


def found(stack: EncryptedStack) -> set[str]:
    """Return the secrets that the files of Temporal's database contain, ignoring case."""
    env = b"".join(file.read_bytes() for file in stack.file.parent.glob("temporal.db*")).lower()
    return {what for what, words in SECRETS.items() if words.lower().encode() in env}


async def test_database_of_temporal_with_keys_has_no_personal_data(stack: EncryptedStack, orders: Orders) -> None:
    await traffic(stack, orders, RING)
    assert found(stack) == set()


async def test_database_of_temporal_without_keys_has_all_of_it(stack: EncryptedStack, orders: Orders) -> None:
    """This proves that the search finds readable data."""
    await traffic(stack, orders, None)
    assert found(stack) == set(SECRETS)


async def test_run_continues_through_enabling_and_rotating_keys(stack: EncryptedStack, orders: Orders) -> None:
    plain = await stack.client(None)
    stack.faults.before["create_billing_service"] = stack.faults.before["release_ip_address"] = fail_with_personal_data
    async with stack.worker(plain):
        run = await stack.lastmile(plain).start(orders.provision())
        await parked(run)
    for ring in ROTATION[:-1]:
        client = await stack.client(ring)
        lastmile = stack.lastmile(client)
        async with stack.worker(client):
            await lastmile.decide("acme", orders.ref, "retry_step", Decision(by="noc-7", why="once more"))
            run = OrderRun(run.order, client.get_workflow_handle(run.handle.id, result_type=OrderResult))
            assert (await parked(run)).step == "allocate_ip_address"
    stack.faults.before.clear()
    async with stack.worker(client):
        await lastmile.decide("acme", orders.ref, "retry_step", Decision(by="noc-7", why="fixed"))
        assert (await run.result()).status is ResultStatus.ROLLED_BACK


async def test_result_without_its_key_names_the_key(stack: EncryptedStack, orders: Orders) -> None:
    client = await stack.client(RING)
    async with stack.worker(client):
        run = await stack.lastmile(client).start(orders.provision())
        await run.result()
    for keys, words in (
        (None, "key 'k1', and this process has no keys"),
        (KeyRing({"k2": bytes(32)}), "key 'k1', which LASTMILE_ENCRYPTION_KEYS does not have"),
    ):
        other_client = await stack.client(keys)
        with pytest.raises(DecryptionError, match=words):
            await other_client.get_workflow_handle(run.handle.id, result_type=OrderResult).result()


async def test_schedules_survive_a_rotation(stack: EncryptedStack) -> None:
    made = [[await (await stack.manager(ring)).make(plan) for plan in SCHEDULES] for ring in ROTATION]
    assert made == [[CreateOutcome.CREATED] * len(SCHEDULES), *[[CreateOutcome.UNCHANGED] * len(SCHEDULES)] * 3]
    client, manager = await stack.client(ROTATION[-1]), await stack.manager(ROTATION[-1])
    async with stack.worker(client):
        await manager.trigger("audit")
        while (run := (await manager.status(AUDIT)).last_run) is None:
            pass  # a Schedule cannot be waited for
        await client.get_workflow_handle(run).result()


class Inherited:
    """The cleanup's Schedule of earlier versions, with encrypted memo and summary, and changes by an operator."""

    def __init__(self, stack: EncryptedStack) -> None:
        self._place = stack

    async def put(self, change: ScheduleSpec | None = None, *args: Cleanup) -> None:
        manager = await self._place.manager(RING)
        await manager.make(CLEANUP)
        client = await self._place.client(RING)

        async def changed(found: ScheduleUpdateInput) -> ScheduleUpdate:
            schedule = found.description.schedule
            action = schedule.action
            assert isinstance(action, ScheduleActionStartWorkflow)
            assert action.memo
            action.memo = {WRITTEN: (await client.data_converter.decode([action.memo[WRITTEN]]))[0]}
            action.static_summary = CLEANUP.note
            action.args = args
            schedule.spec = change or schedule.spec
            schedule.state.paused, schedule.state.note = True, "NetBox is being moved"
            return ScheduleUpdate(schedule)

        await client.get_schedule_handle(manager.id_of(CLEANUP.name)).update(changed)

    async def seen(self) -> ScheduleDescription:
        handle = (await self._place.client(None)).get_schedule_handle(f"{self._place.settings.task_queue}/cleanup")
        return await handle.describe()

    async def keys(self) -> dict[str, bytes | None]:
        """Return the key id of each encrypted part of the action."""
        action = (await self.seen()).schedule.action
        assert isinstance(action, ScheduleActionStartWorkflow)
        assert action.memo
        env = {"memo": action.memo[WRITTEN], "summary": action.static_summary, **dict(enumerate(action.args))}
        return {str(what): payload.metadata.get(KEY_ID) for what, payload in env.items()}


@pytest.fixture
def inherited(stack: EncryptedStack) -> Inherited:
    return Inherited(stack)


async def test_second_step_of_a_rotation_reencrypts_schedules(stack: EncryptedStack, inherited: Inherited) -> None:
    await inherited.put(AT_FIVE, Cleanup(revoked_days=30))
    assert await inherited.keys() == {"memo": b"k1", "summary": b"k1", "0": b"k1"}
    made = [await (await stack.manager(ring)).make(CLEANUP) for ring in ROTATION[1:]]
    assert made == [CreateOutcome.UPDATED, CreateOutcome.UPDATED, CreateOutcome.KEPT]
    assert await inherited.keys() == {"memo": None, "summary": None, "0": b"k2"}

    later = replace(CLEANUP, spec=ScheduleSpec(), late=timedelta(hours=1))
    assert await (await stack.manager(ROTATION[-1])).make(later) is CreateOutcome.UPDATED
    schedule = (await inherited.seen()).schedule
    assert [one.start for one in schedule.spec.calendars[0].hour] == [5], "the operator's"
    assert schedule.policy.catchup_window == later.late, "that of the later version"
    assert (schedule.state.paused, schedule.state.note) == (True, "NetBox is being moved")
    converter = (await stack.client(ROTATION[-1])).data_converter
    assert isinstance(schedule.action, ScheduleActionStartWorkflow)
    assert await converter.decode(schedule.action.args, [Cleanup]) == [Cleanup(revoked_days=30)]


@pytest.mark.parametrize("keys", [KeyRing(NEW), None], ids=["another", "none"])
async def test_schedule_with_a_missing_key_is_rewritten(
    stack: EncryptedStack, inherited: Inherited, keys: KeyRing | None
) -> None:
    await inherited.put()
    with capture_logs() as logs:
        assert await (await stack.manager(keys)).make(CLEANUP) is CreateOutcome.UPDATED
    [line] = logs
    assert (line["event"], line["what"]) == ("schedule.not_decrypted", "memo")
    assert "encrypted with key 'k1'" in line["reason"]
    assert await inherited.keys() == {"memo": None, "summary": None}
    assert (await inherited.seen()).schedule.state.paused
    assert await (await stack.manager(keys)).make(CLEANUP) is CreateOutcome.UNCHANGED
    assert await (await stack.manager(keys)).make(replace(CLEANUP, spec=AT_FIVE)) is CreateOutcome.UPDATED


async def test_schedule_with_a_missing_key_keeps_an_operators_change(
    stack: EncryptedStack, inherited: Inherited
) -> None:
    await inherited.put(AT_FIVE, Cleanup(revoked_days=30))
    manager = await stack.manager(KeyRing(NEW))
    assert await manager.make(CLEANUP) is CreateOutcome.UPDATED
    with capture_logs() as logs:
        assert await manager.make(CLEANUP) is CreateOutcome.KEPT
    [line] = logs
    assert (line["event"], line["what"]) == ("schedule.not_decrypted", "input")
    assert "encrypted with key 'k1'" in line["reason"]
    assert [one.start for one in (await inherited.seen()).schedule.spec.calendars[0].hour] == [5]
    assert await inherited.keys() == {"memo": None, "summary": None, "0": b"k1"}


async def test_list_of_scheduled_orders_names_a_needed_old_key(stack: EncryptedStack, orders: Orders) -> None:
    """docs/operations/encryption.md describes this use of the list."""
    at = datetime.now(UTC) + timedelta(days=9)
    old, new = [stack.lastmile(await stack.client(ring)).scheduled for ring in (ROTATION[0], ROTATION[-1])]
    await old.hold(orders.provision(not_before=at))
    while not [one async for one in old.waiting()]:
        pass  # listed after a moment
    (unreadable,) = [one async for one in new.waiting()]
    assert (unreadable.order_id, unreadable.subscriber_ref) == ("O-1", "")
    assert "encrypted with key 'k1'" in unreadable.unreadable
    await old.cancel("acme", "O-1")
    while [one async for one in old.waiting()]:
        pass
    await new.hold(orders.provision(not_before=at))
    while not (listed := [one async for one in new.waiting()]):
        pass
    assert [(one.subscriber_ref, one.unreadable) for one in listed] == [(orders.ref, "")]


async def test_urgency_of_an_encrypted_scheduled_order_can_be_changed(stack: EncryptedStack, orders: Orders) -> None:
    client = await stack.client(RING)
    scheduled = stack.lastmile(client).scheduled
    order = orders.provision(orders.ref, not_before=datetime.now(UTC) + timedelta(days=9))
    await scheduled.hold(order)
    await scheduled.set_urgency("acme", orders.ref, Urgency.BULK)
    action = (await client.get_schedule_handle(f"order/acme/{orders.ref}").describe()).schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert {argument.metadata["encoding"] for argument in action.args} == {b"binary/encrypted"}
    (_, changed) = await client.data_converter.decode(action.args, [str, ProvisionSubscriber])
    assert changed == order.model_copy(update={"urgency": Urgency.BULK})
    await scheduled.cancel("acme", orders.ref)


async def test_the_list_of_parked_runs_shows_what_can_be_read(stack: EncryptedStack, orders: Orders) -> None:
    client = await stack.client(RING)
    queue = stack.settings.task_queue
    stack.faults.before["create_billing_service"] = stack.faults.before["release_ip_address"] = fail_with_personal_data
    async with stack.worker(client):
        run = await stack.lastmile(client).start(orders.provision())
        await parked(run)
        without_key = await stack.client(KeyRing(NEW))
        while not (listed := [one async for one in parked_runs(without_key, queue)]):
            pass  # listed after a moment
        [one] = listed
        assert (one.subscriber_ref, one.step, one.order_id, one.parked) == (orders.ref, "allocate_ip_address", "", None)
        assert "encrypted with key 'k1'" in one.unknown
        operator = OperatorClient(without_key, queue)
        assert await operator.open_order("acme", orders.ref) == "Provision"
        found = await find_subscriber_orders(lambda: asyncio.sleep(0, operator), "acme", orders.ref)
        assert found.trouble.startswith("Where Provision stands is not known: The payload is encrypted with key 'k1'")
    async with stack.worker(without_key):
        # The worker that has ended answers no query, and then the other one cannot read the run.
        while not is_stuck(await silent(stack.lastmile(without_key), orders)):
            pass
        with pytest.raises(RunStuckError, match="its workflow tasks fail"):
            await operator.require_answer("acme", orders.ref)
    await run.handle.terminate()


async def silent(lastmile: Lastmile, orders: Orders) -> Exception:
    """The failure of a query about the subscriber's run."""
    with pytest.raises((RPCError, WorkflowQueryFailedError)) as failure:
        await lastmile.progress("acme", orders.ref)
    return failure.value


async def test_recurring_job_that_ran_once_with_the_new_key_needs_the_old_one_no_more(stack: EncryptedStack) -> None:
    """Temporal hands the result of the last run to the next one (docs/operations/encryption.md)."""
    before = None
    for ring in (RING, KeyRing(NEW | OLD), KeyRing(NEW)):
        client, schedules = await stack.client(ring), await stack.manager(ring)
        async with stack.worker(client):
            await schedules.make(AUDIT)
            await schedules.trigger("audit")
            while (last := (await schedules.status(AUDIT)).last_run) in (None, before):
                pass  # a Schedule cannot be waited for
            assert last is not None
            async with asyncio.timeout(60):
                await client.get_workflow_handle(last).result()
        before = last
