"""`lastmile renumber-pool` and `lastmile renumbering`: the renumbering of a pool, by a Temporal workflow."""

import asyncio
import math
from datetime import timedelta
from typing import Any

from lastmile.cli.connections import connect_temporal, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.inventory.pool_changes import named_pool
from lastmile.cli.orders.decisions import parse_decision
from lastmile.cli.output import console, fact_table, outcome_text, print_error, print_json, print_result, print_text
from lastmile.client.operator_client import OperatorClient
from lastmile.client.pool_renumbering import RenumberingAction, RenumberingRun, find_renumbering, start_renumbering
from lastmile.contract.pool_renumbering import (
    STANDING_WORDS,
    PoolRenumbering,
    RenumberingProgress,
    RenumberingStatus,
)
from lastmile.errors import InvalidInputError
from lastmile.fields.daily_window import DailyWindow
from lastmile.fields.phrases import count_of, format_time
from lastmile.services.pool_renumbering import PlannedRenumbering, find_pool_id, plan_renumbering

__all__ = ["decide", "renumber_pool", "show", "watch"]


async def renumber_pool(
    name: str,
    target: str,
    *,
    tenant: str | None,
    rate: int,
    window: str | None,
    time_zone: str,
    overlap_hours: int,
    max_failed: int,
    dry_run: bool,
    as_json: bool,
) -> Exit:
    """Start the renumbering of a pool, or show what it would do. Raises `AlreadyRunningError`."""
    settings = load_settings()
    async with open_database(settings) as database:
        source = await named_pool(database, name, tenant)
        hours = _window(window, time_zone)
        _check_range("--overlap-hours", overlap_hours, 720)
        _check_range("--max-failed", max_failed, 100)
        plan = await plan_renumbering(database, source, target)
    if dry_run:
        _show_plan(plan, rate, hours, as_json)
        return Exit.DONE
    operator = await connect_temporal(settings)
    run = await start_renumbering(
        operator,
        PoolRenumbering(
            pool_id=plan.pool_id,
            pool=name,
            tenant=source.pool.tenant or "",
            purpose=source.pool.purpose,
            target=target,
            lines_per_hour=rate,
            window=hours,
            overlap_hours=overlap_hours,
            failed_percent=max_failed,
            requested_by=current_user(),
        ),
    )
    words = f"The renumbering of pool {name} to pool {target} has started: {_describe(plan)}."
    if not as_json:
        words += f" `lastmile renumbering watch {name}` follows it."
    print_result(words, as_json, workflow=run.handle.id, **_plan_json(plan, rate, hours))
    if shortage := await operator.worker_shortage():
        print_error(shortage)
    return Exit.DONE


def _window(written: str | None, zone: str) -> DailyWindow | None:
    try:
        return None if written is None else DailyWindow.parse(written, zone)
    except ValueError as failure:
        option = "--time-zone" if "time zone" in str(failure) else "--window"
        raise InvalidInputError(f"{option}: {failure}.") from None


def _check_range(option: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise InvalidInputError(f"{option}: must be from 0 to {most}, and is {value}.")


def _show_plan(plan: PlannedRenumbering, rate: int, window: DailyWindow | None, as_json: bool) -> None:
    when = f"in the window {window}" if window else "at any time"
    length = timedelta(hours=plan.lines.unfinished / rate)
    days = math.ceil(length / (window.length if window else timedelta(days=1)))
    words = (
        f"Nothing was started. Pool {plan.source.pool.name}: {_describe(plan)}. Pool {plan.target.pool.name} has "
        f"{count_of(plan.target.free, 'free prefix', 'free prefixes')}. At {rate:,}/h {when} the orders start within "
        f"{count_of(days, 'day', 'days')}."
    )
    print_result(words, as_json, **_plan_json(plan, rate, window), days=days)
    if not as_json:
        for line in plan.lines.examples:
            print_text(line)


def _describe(plan: PlannedRenumbering) -> str:
    return plan.lines.words or "no line holds a prefix of the pool"


def _plan_json(plan: PlannedRenumbering, rate: int, window: DailyWindow | None) -> dict[str, Any]:
    return {
        "pool": plan.source.pool.name,
        "tenant": plan.source.pool.tenant,
        "to": plan.target.pool.name,
        "lines": plan.lines.counts,
        "free": plan.target.free,
        "lines_per_hour": rate,
        "window": None if window is None else str(window),
    }


async def show(name: str, tenant: str | None, *, as_json: bool) -> Exit:
    """Show the newest renumbering of the pool. Raises `NotRunningError` if there is none."""
    operator, run = await _find(name, tenant)
    progress = await run.progress()
    _print(progress, as_json)
    if retry := await operator.pending_retry_of(run.handle.id):
        print_error(retry)
    return Exit.DONE


async def watch(name: str, tenant: str | None, *, as_json: bool) -> Exit:
    """Follow the renumbering to its end; FAILED if lines are left."""
    _, run = await _find(name, tenant)
    try:
        async for words in run.follow():
            print_error(f"Pool {name}: {words}.")
        result = await run.result()
    except asyncio.CancelledError:
        print_error(
            f"Interrupted: the renumbering of pool {name} continues in Temporal, as workflow {run.handle.id}. "
            f"`lastmile renumbering stop {name}` stops it."
        )
        raise
    _print(result, as_json)
    return Exit.DONE if result.status is RenumberingStatus.ENDED and not result.left else Exit.FAILED


async def decide(
    action: RenumberingAction, name: str, tenant: str | None, *, why: str, by: str | None, as_json: bool
) -> Exit:
    """Pause, resume or stop the renumbering of the pool. Raises `NotRunningError`."""
    decision = parse_decision(by=by, why=why, step=None)
    operator, run = await _find(name, tenant)
    if shortage := await operator.worker_shortage():
        print_error(shortage)
    answer = await run.decide(action, decision)
    print_result(f"The renumbering of pool {name} is {answer}.", as_json, pool=name, decision=action, done=answer)
    return Exit.DONE


async def _find(name: str, tenant: str | None) -> tuple[OperatorClient, RenumberingRun]:
    settings = load_settings()
    async with open_database(settings) as database:
        pool = (await named_pool(database, name, tenant)).pool
        id_ = await find_pool_id(database, pool)
    operator = await connect_temporal(settings)
    return operator, await find_renumbering(operator, name, id_)


def _print(progress: RenumberingProgress, as_json: bool) -> None:
    if as_json:
        print_json(progress.model_dump(mode="json"))
        return
    left = {STANDING_WORDS[standing]: f"{count:,}" for standing, count in progress.left.items()}
    facts = {
        "status": outcome_text(progress.status),
        "detail": progress.words,
        "waits until": format_time(progress.waits_until),
        "renumbered": f"{progress.renumbered:,}",
        "failed": f"{progress.failed:,}",
        "in flight": f"{progress.in_flight:,}",
        **{f"{words}, at the last count": count for words, count in left.items()},
    }
    console.print(fact_table(f"Pool {progress.pool} to pool {progress.target}", facts))
    for problem in progress.problems:
        print_text(problem)
