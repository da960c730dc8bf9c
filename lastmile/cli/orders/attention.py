"""`lastmile attention`: what waits for a person, and one decision for many of them."""

from dataclasses import asdict
from typing import Literal

from lastmile.audit.findings import last
from lastmile.cli.connections import Temporal, load_settings, open_database, the_tenant
from lastmile.cli.current_user import actor
from lastmile.cli.exit_codes import Exit, UnavailableError
from lastmile.cli.orders.decisions import decision_of
from lastmile.cli.output import complain, console, print_json, say, table, when
from lastmile.client.orders import NotRunningError
from lastmile.client.parked_runs import ParkedRun, parked_runs
from lastmile.contract import Decision
from lastmile.errors import InvalidInputError
from lastmile.settings import Settings

__all__ = ["Choice", "attention"]

Choice = Literal["retry", "skip", "abandon"]

_UPDATES: dict[Choice, str] = {"retry": "retry_step", "skip": "skip_step", "abandon": "abandon"}


async def attention(
    *, tenant: str | None, step: str | None, decide: Choice | None, why: str | None, by: str | None, as_json: bool
) -> Exit:
    """List the parked runs, or release them all; FAILED where one did not take the decision."""
    decision = _decision(decide, step=step, why=why, by=by)
    settings = load_settings()
    if tenant is not None:
        await the_tenant(settings, tenant)
    temporal = await Temporal.connect(settings)
    found = [run async for run in parked_runs(temporal.client, settings.task_queue, tenant, step)]
    runs = sorted(found, key=lambda run: run.parked.since if run.parked else run.started_at)
    if decide is None or decision is None:
        _show(runs, as_json)
        if not as_json and settings.database_url is not None:
            await _show_audit(settings)
        return Exit.DONE
    if runs and (lack := await temporal.lack_of_workers()):
        raise UnavailableError(f"Nothing can be decided now. {lack}")
    refused = [run for run in runs if not await _decided(temporal, run, decide, decision, as_json)]
    if not runs and not as_json:
        say("No order waits for an operator.")
    return Exit.FAILED if refused else Exit.DONE


def _decision(decide: Choice | None, *, step: str | None, why: str | None, by: str | None) -> Decision | None:
    if decide is None:
        if why is not None or by is not None:
            raise InvalidInputError(
                "--why and --by belong to a decision: say which with --decide retry, skip or abandon."
            )
        return None
    if decide != "retry" and step is None:
        raise InvalidInputError(f"--decide {decide} needs --step: name the step that the decision is for.")
    if why is None:
        raise InvalidInputError("A decision needs its reason: --why.")
    if not (by := by or actor()):
        raise InvalidInputError("Your login has no name: say who decides with --by.")
    return decision_of(by=by, why=why, step=step)


async def _decided(temporal: Temporal, run: ParkedRun, decide: Choice, decision: Decision, as_json: bool) -> bool:
    # Of the step that was seen: by now a colleague may have released it, and the run be parked at the next one.
    seen = decision.model_copy(update={"step": run.step})
    problem = ""
    try:
        done = await temporal.orders.steer(run.tenant, run.subscriber_ref, _UPDATES[decide], seen)
    except NotRunningError as failure:
        problem = str(failure)
    if as_json:
        print_json(_json(run) | {"decision": decide, "problem": problem})
    elif problem:
        complain(f"{run.tenant}, subscriber {run.subscriber_ref}, order {run.order_id}: {problem}.")
    else:
        say(f"{run.tenant}, subscriber {run.subscriber_ref}, order {run.order_id}: {done}.")
    return not problem


def _show(runs: list[ParkedRun], as_json: bool) -> None:
    if as_json:
        for run in runs:
            print_json(_json(run))
        return
    if not runs:
        say("No order waits for an operator.")
        return
    columns = ("tenant", "subscriber", "order", "operation", "parked at", "since", "tries", "reason")
    rows = [
        (run.tenant, run.subscriber_ref, run.order_id, run.operation, run.step, *_since(run), _words(run))
        for run in runs
    ]
    console.print(table("", columns, rows, spare=("operation", "tries", "order")))
    say(
        "Fix the cause, then `lastmile retry SUBSCRIBER --why …`, or all of one step at once: "
        "`lastmile attention --step STEP --decide retry --why …`."
    )


async def _show_audit(settings: Settings) -> None:
    """Findings of the audit wait for a person, too; acknowledged findings do not."""
    async with open_database(settings) as database, database.platform() as connection:
        found = await last(connection)
    apart = f" {found.acknowledged:,} more are acknowledged." if found.acknowledged else ""
    if found.violations:
        say(f"The audit of {when(found.at)} left {found.violations:,} findings: `lastmile audit` lists them.{apart}")
    elif apart:
        say(f"The audit of {when(found.at)} left no finding except {found.acknowledged:,} acknowledged.")


def _since(run: ParkedRun) -> tuple[str, str]:
    """Since when the run waits, and how often what failed was tried."""
    if run.parked is None:
        return "", ""
    return when(run.parked.since), str(run.parked.attempts or "")


def _words(run: ParkedRun) -> str:
    if run.parked is None:
        return f"no worker could be asked why; the run began at {when(run.started_at)}"
    return f"undo: {run.parked.failure}" if run.parked.undo else run.parked.failure


def _json(run: ParkedRun) -> dict[str, object]:
    return asdict(run) | {"parked": run.parked.model_dump(mode="json") if run.parked else None}
