"""A case, run in its environment: the fault is put in, the run goes to its end, and what is there then is looked at."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from temporalio.client import WorkflowFailureError

from lastmile.client.orders import Lastmile, OrderRefusedError, OrderRun
from lastmile.contract import AnyOrder, Decision, OrderResult, RunStatus
from tests.support.faults import Gate, after_closing, broken, once, refused
from tests.support.orders import PLAN, outcomes, parked, read_progress, what_is_there
from tests.workflows.every_way import victim
from tests.workflows.every_way.cases import Case, End, Fault
from tests.workflows.every_way.environment import CaseEnvironment
from tests.workflows.every_way.victim import Death, Moment
from workflows.saga import LATE_CANCEL

__all__ = ["Seen", "run_case"]

LOOK_SECONDS = 5
WORD = Decision(by="noc-7", why="ticket 4711")
_MOMENTS = {
    Fault.LOST_BEFORE: Moment.BEFORE,
    Fault.LOST_MIDWAY: Moment.UNCOMMITTED,
    Fault.LOST_BETWEEN: Moment.BETWEEN,
    Fault.LOST_AFTER: Moment.UNREPORTED,
    Fault.UNDO_LOST: Moment.UNREPORTED,
}


@dataclass(frozen=True)
class Seen:
    """How a run ended, and what it left: the counterpart of an `End`."""

    run: OrderRun
    status: str
    temporal: str
    order: str | None
    steps: dict[str, str | None]
    reason: str
    facts: list[str]
    """One for each row."""
    findings: dict[str, int]
    """Of the audit, and what a reconciliation of a delegated pool says."""
    parked: tuple[str, ...]
    untouched: bool
    """Every row is, word for word, what it was before the run."""
    late_cancel: bool
    """The result says that a cancel came too late."""

    @property
    def words(self) -> str:
        """For the table."""
        status = self.status.replace("_", " ")
        return f"P {status}" if self.parked else status

    def differs_from(self, end: End) -> list[str]:
        """What is not as the rules say, in words."""
        compared: list[tuple[str, object, object]] = [
            ("result", self.status, end.status),
            ("run", self.temporal, end.run),
            ("order's row", self.order, end.order),
            ("parked at", self.parked, end.parked),
            ("left", self.facts, sorted(end.facts)),
            ("audit", self.findings, end.findings),
        ]
        words = [f"{what}: {seen}, not {wanted}" for what, seen, wanted in compared if seen != wanted]
        words += [
            f"step {step}: {self.steps.get(step)}, not {' or '.join(map(str, allowed))}"
            for step, allowed in end.steps.items()
            if self.status != "not begun" and self.steps.get(step) not in allowed
        ]
        if not self.reason.startswith(end.because):
            words.append(f"reason: {self.reason!r}, not because of {end.because!r}")
        if end.untouched and not self.untouched:
            words.append("rolled back, and some rows are not what they were")
        if end.late_cancel and not self.late_cancel:
            words.append("the result does not say that the cancel came too late")
        return words


async def run_case(env: CaseEnvironment, case: Case) -> Seen:
    """Run the case to its end. Raises `TimeoutError`, with where the run stands, where it comes to none."""
    orders = await env.tenant(f"S-{case}"[:60])
    order: AnyOrder = orders.provision(f"{orders.tenant}-P")
    if case.flow.after:
        await env.lastmile.execute(order)
        await env.log_in(orders)
        for number, operation in enumerate(case.flow.after[1:]):
            await env.lastmile.execute(orders.of(operation, f"{orders.tenant}-{number}"))
        order = orders.of(case.operation, f"{orders.tenant}-D")
    before = await what_is_there(env.owner, orders.tenant)
    if env.controllers is not None:
        env.controllers.script(case, order)
    async with AsyncExitStack() as stack:
        if case.fault.takes_over:
            run = await _taking_over(env, case, order, stack)
        elif case.fault.loses_worker:
            run = await _losing_the_worker(env, case, order, stack)
        elif case.fault.is_cancel:
            run = await _cancelled(env, case, order, stack)
        else:
            run = await _failing(env, case, order)
        parked = await _to_the_end(env, case, run)
        return await _look(env, run, before, parked)


async def _losing_the_worker(env: CaseEnvironment, case: Case, order: AnyOrder, stack: AsyncExitStack) -> OrderRun:
    """Begun by a worker that kills itself at the activity, gone on with by another one."""
    activity, refused_after = case.activity, None
    if case.fault.of_undo:
        activity, refused_after = case.undo, case.last
    run = await _begun_and_lost(env, Death(activity, _MOMENTS[case.fault], refused_after), order, stack)
    await stack.enter_async_context(env.worker(order.tenant))
    return run


async def _taking_over(env: CaseEnvironment, case: Case, order: AnyOrder, stack: AsyncExitStack) -> OrderRun:
    """Begun by a run that is terminated at the activity; cancelled while what takes that over is opened."""
    faults, gate = env.faults, Gate()

    async def stopped() -> None:
        await gate()
        await refused()

    faults.before[order.order_id, case.activity] = stopped
    first = await env.lastmile.start(order)
    await _reached(gate.reached.wait(), first)
    await first.handle.terminate("by the test")
    gate.open()
    del faults.before[order.order_id, case.activity]
    if case.fault is Fault.TAKEOVER_UNFINISHED:
        run = await _begun_and_lost(env, Death("open_order", Moment.UNREPORTED), order, stack)
        await run.handle.cancel()
        await stack.enter_async_context(env.worker(order.tenant))
        return run
    opened = Gate()

    async def unreported() -> None:
        await opened()
        await broken()

    order = order.model_copy(update={"order_id": f"{order.order_id}2"})
    faults.after[order.order_id, "open_order"] = once(unreported)
    run = await env.lastmile.start(order)
    await _reached(opened.reached.wait(), run)
    await run.handle.cancel()
    opened.open()
    return run


async def _begun_and_lost(env: CaseEnvironment, death: Death, order: AnyOrder, stack: AsyncExitStack) -> OrderRun:
    """The run, once its worker has died."""
    # Off the loop, on which all others run: the first one starts a server of processes.
    process = await asyncio.to_thread(
        victim.start,
        env.address,
        env.database_url,
        env.settings_for(order.tenant),
        death,
        env.controllers and env.controllers.urls,
    )
    stack.callback(victim.end, process)
    run = await Lastmile(env.with_short_waits, task_queue=order.tenant).start(order)
    await _reached(victim.until_dead(process), run)
    return run


async def _cancelled(env: CaseEnvironment, case: Case, order: AnyOrder, stack: AsyncExitStack) -> OrderRun:
    """Cancelled at the activity."""
    faults, gate = env.faults, Gate()
    match case.fault, case.activity:
        case Fault.CANCEL_BEFORE, "open_order":
            run = await Lastmile(env.client, task_queue=order.tenant).start(order)
            await run.handle.cancel()
            await stack.enter_async_context(env.worker(order.tenant))
            return run
        case (Fault.CANCEL_DURING, "open_order") | (Fault.CANCEL_BEFORE, case.flow.first):
            # The opening and the first steps are one activity.
            faults.before[order.order_id, case.flow.first] = gate
        case Fault.CANCEL_BEFORE, "close_order":
            faults.before[order.order_id, case.activity] = gate
        case Fault.CANCEL_DURING, "close_order":  # its transaction has not ended
            faults.after[order.order_id, case.activity] = gate
        case _, "close_order":
            after_closing(faults, gate, order.order_id)
        case Fault.CANCEL_BEFORE, _:
            faults.after[order.order_id, case.previous] = gate
        case Fault.CANCEL_DURING, _:
            env.at_commit[order.workflow_id, case.activity] = gate
        case _:
            faults.after[order.order_id, case.activity] = gate
    run = await env.lastmile.start(order)
    await _reached(gate.reached.wait(), run)
    if case.fault is Fault.CANCEL_RACING:
        gate.open()
    await run.handle.cancel()
    gate.open()
    return run


async def _failing(env: CaseEnvironment, case: Case, order: AnyOrder) -> OrderRun:
    """The activity fails, or, where the fault is the undo's, the last step of those that can be taken back does."""
    faults = env.faults
    fault = {Fault.USED_UP: broken, Fault.UNDO_ONCE: once(broken)}.get(case.fault, refused)
    if case.fault.of_controller and not case.fault.of_undo:
        return await env.lastmile.start(order)
    if not case.fault.of_undo:
        faults.before[order.order_id, case.activity] = fault
        return await env.lastmile.start(order)
    gates = {Fault.UNDO_CANCELLED: (Gate(), Gate()), Fault.UNDO_OF_FAILURE_CANCELLED: (refused, Gate())}
    forward, backward = gates.get(case.fault, (refused, fault))
    faults.after[order.order_id, case.last] = forward
    if not case.fault.of_controller:
        faults.before[order.order_id, case.undo] = backward
    run = await env.lastmile.start(order)
    for gate in (forward, backward):
        if isinstance(gate, Gate):
            await _reached(gate.reached.wait(), run)
            await run.handle.cancel()
            gate.open()
    return run


async def _reached(point: Coroutine[Any, Any, Any], run: OrderRun) -> None:
    """Wait until the run has come to this point. Raises `AssertionError` where it ends or parks before."""
    coming, ended = asyncio.create_task(point), asyncio.create_task(_ended(run))
    await asyncio.wait([coming, ended], return_when=asyncio.FIRST_COMPLETED)
    if not coming.done():
        coming.cancel()
        raise AssertionError(f"the run ended before it came to where the fault is: {await ended}")
    ended.cancel()


async def _ended(run: OrderRun) -> str:
    """Wait for the end, however it is, and tell it. Raises `AssertionError` where the run waits for an operator."""
    end = asyncio.create_task(run.handle.result())
    try:
        while not (await asyncio.wait([end], timeout=LOOK_SECONDS))[0]:
            stand = asyncio.create_task(read_progress(run))
            if not (await asyncio.wait([stand], timeout=LOOK_SECONDS))[0]:
                stand.cancel()  # there is no worker at this moment to ask
            elif (progress := stand.result()) is not None and progress.status is RunStatus.PARKED:
                raise AssertionError(f"the run is parked: {progress.attention}")
        return str(await end)
    except WorkflowFailureError as failure:
        return repr(failure.cause)
    finally:
        end.cancel()


async def _to_the_end(env: CaseEnvironment, case: Case, run: OrderRun) -> tuple[str, ...]:
    """Wait for the run's end; what parks gets the operator's word of the case. Returns where it parked.

    Raises `AssertionError` where it parks more often than the rules say.
    """
    often = max(len(end.parked) for end in case.ends)
    if not often:
        await _ended(run)
        return ()
    at: list[str] = []
    ended = asyncio.create_task(run.handle.result())
    while True:
        waiting = asyncio.create_task(parked(run))
        await asyncio.wait([ended, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            ended.exception()
            return tuple(at)
        at.append(str(waiting.result().step))
        assert len(at) <= often, f"the run is parked once more: {waiting.result().attention}"
        if case.fault.decision == "retry_step":
            _remove_faults(env, run.order.order_id)
        await env.lastmile.decide(run.order.tenant, run.order.subscriber_ref, case.fault.decision, WORD)


def _remove_faults(env: CaseEnvironment, order_id: str) -> None:
    for key in [key for key in env.faults.before if key[0] == order_id]:
        del env.faults.before[key]


async def _look(env: CaseEnvironment, run: OrderRun, before: dict[str, list[str]], parked_at: tuple[str, ...]) -> Seen:
    tenant = run.order.tenant
    result: OrderResult | None = None
    with suppress(OrderRefusedError):
        result = await run.result()
    rows = await what_is_there(env.owner, tenant)
    findings = await env.audit.findings(tenant)
    given = replaced = 0
    if env.pools is not None:
        given = env.pools.given(tenant)
        held = map(json.loads, rows["held delegations"])
        replaced = sum(one["slot"] is None and one["replaced_by_order"] is not None for one in held)
        findings.update(await env.pools.wrong(env.database, tenant))
    if env.controllers is not None:
        findings.update(await env.controllers.wrong(env.database, env.owner, tenant))
    status = (await run.handle.describe()).status
    assert status is not None
    return Seen(
        run=run,
        status=result.status.value if result else "not begun",
        temporal=status.name,
        order=await env.owner.fetchval(
            "SELECT status FROM orders WHERE tenant_id = $1 AND order_id = $2", tenant, run.order.order_id
        ),
        steps=outcomes(result) if result else {},
        reason=result.reason if result else "",
        facts=sorted(_facts(rows) + ["replaced slot"] * replaced + ["slot"] * (given - replaced)),
        findings=dict(findings),
        parked=parked_at,
        untouched=rows == before,
        late_cancel=result is not None and LATE_CANCEL in result.notes,
    )


_DEVICES = {"onu": "ACME00000000", "cpe": "00:1a:2b:00:00:00"}


def _is_original(profile: Any) -> bool:
    return (profile["onu_serial"], profile["cpe_mac"], profile["pon_port"]) == (*_DEVICES.values(), "1/1/1")


def _customer(row: Any) -> str:
    if row["ref"] != "C-1":
        return "new customer"
    return "customer" if row["name"] == "Ada Example" else "customer corrected"


def _subscriber(row: Any) -> str:
    if row["archived_at"]:
        return "subscriber archived"
    return "subscriber" if row["customer"] == "C-1" else "subscriber transferred"


def _device(row: Any) -> str:
    if row["identity"] != _DEVICES[row["kind"]]:
        return f"{row['kind']} replaced"
    return f"{row['kind']} {'in' if row['in_service'] else 'out of'} service"


_WORDS: dict[str, Callable[[Any], str]] = {
    "customers": lambda row: _customer(row),
    "subscribers": lambda row: _subscriber(row),
    "previous_values": lambda row: f"previous values of {row['step']}",
    "network_profiles": lambda row: "network profile" if _is_original(row) else "network profile changed",
    "open suspensions": lambda row: f"suspended: {row['mode']}",
    "billing_services": lambda row: (
        f"billing {row['status']}" + ("" if row["plan"] == PLAN.name else " for the new plan")
    ),
    "devices": lambda row: _device(row),
    "radcheck": lambda row: "account blocked" if row["attribute"] == "Auth-Type" else "account",
    "radreply": lambda _: "reply item",
    "radusergroup": lambda row: _group(row["groupname"]),
    "held delegations": lambda row: f"{_replaced(row)}prefix {row['state']}",
    "taken slots": lambda row: f"{_replaced(row)}slot",
    "free slots after quarantine": lambda _: "slot after quarantine",
}


def _group(name: str) -> str:
    if name.startswith(PLAN.name):
        return "group suspended" if ":" in name else "group"
    return "suspended group of the new plan" if ":" in name else "group of the new plan"


def _replaced(row: Any) -> str:
    return "replaced " if row["replaced_by_order"] else ""


def _facts(rows: dict[str, list[str]]) -> list[str]:
    return sorted(_WORDS[table](json.loads(row)) for table, found in rows.items() for row in found)
