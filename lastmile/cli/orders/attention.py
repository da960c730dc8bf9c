"""`lastmile attention`: the orders that wait for an operator, and one decision for all of them."""

from dataclasses import asdict

from lastmile.cli.connections import find_tenant, load_settings, open_database, open_operator
from lastmile.cli.exit_codes import Exit
from lastmile.cli.orders.decisions import check_decider, parse_decision
from lastmile.cli.output import console, make_table, print_error, print_json, print_text
from lastmile.client.decisions import DecidedRun, DecisionAction, decide_all
from lastmile.client.operator import Operator
from lastmile.client.parked_runs import ParkedRun
from lastmile.contract import Decision
from lastmile.errors import InvalidInputError
from lastmile.fields.phrases import format_time
from lastmile.services.audit import last_audit
from lastmile.settings import Settings

__all__ = ["attention"]


async def attention(
    *,
    tenant: str | None,
    step: str | None,
    decide: DecisionAction | None,
    why: str | None,
    by: str | None,
    as_json: bool,
) -> Exit:
    """List the parked orders, or release them all; FAILED if an order refused the decision."""
    settings = load_settings()
    check_decider(settings, by)
    decision = _decision(decide, step=step, why=why, by=by)
    if tenant is not None:
        await find_tenant(settings, tenant)
    async with open_operator(settings) as operator:
        runs = await operator.parked_runs(tenant, step)
        if decide is not None and decision is not None:
            return await _decide(operator, runs, decide, decision, as_json)
    _show(runs, as_json)
    if not as_json and settings.database_url is not None:
        await _show_audit(settings)
    return Exit.DONE


def _decision(decide: DecisionAction | None, *, step: str | None, why: str | None, by: str | None) -> Decision | None:
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
    return parse_decision(by=by, why=why, step=step)


async def _decide(
    operator: Operator, runs: list[ParkedRun], action: DecisionAction, decision: Decision, as_json: bool
) -> Exit:
    code = Exit.DONE
    async for decided in decide_all(operator, runs, action, decision):
        _show_decided(decided, action, as_json)
        if decided.problem:
            code = Exit.FAILED
    if not runs and not as_json:
        print_text("No order waits for an operator.")
    return code


def _show_decided(decided: DecidedRun, action: DecisionAction, as_json: bool) -> None:
    run = decided.run
    order = f"{run.tenant}, subscriber {run.subscriber_ref}, order {run.order_id}"
    if as_json:
        print_json(_json(run) | {"decision": action, "problem": decided.problem})
    elif decided.problem:
        print_error(f"{order}: {decided.problem}.")
    else:
        print_text(f"{order}: {decided.answer}.")


def _show(runs: list[ParkedRun], as_json: bool) -> None:
    if as_json:
        for run in runs:
            print_json(_json(run))
        return
    if not runs:
        print_text("No order waits for an operator.")
        return
    columns = ("tenant", "subscriber", "order", "operation", "parked at", "since", "tries", "reason")
    rows = [
        (run.tenant, run.subscriber_ref, run.order_id, run.operation, run.step, *_since(run), _reason(run))
        for run in runs
    ]
    console.print(make_table("", columns, rows, spare=("operation", "tries", "order")))
    print_text(
        "Fix the cause, then `lastmile retry SUBSCRIBER --why …`, or all of one step at once: "
        "`lastmile attention --step STEP --decide retry --why …`."
    )


async def _show_audit(settings: Settings) -> None:
    """Print the number of audit findings: unacknowledged findings wait for an operator, too."""
    async with open_database(settings) as database:
        found = await last_audit(database)
    acknowledged = f" {found.acknowledged:,} more are acknowledged." if found.acknowledged else ""
    at = f"The audit of {format_time(found.at)} left"
    if found.violations:
        print_text(f"{at} {found.violations:,} findings: `lastmile audit` lists them.{acknowledged}")
    elif acknowledged:
        print_text(f"{at} no finding except {found.acknowledged:,} acknowledged.")


def _since(run: ParkedRun) -> tuple[str, str]:
    """Return the time since when the run waits, and the number of attempts."""
    if run.parked is None:
        return "", ""
    return format_time(run.parked.since), str(run.parked.attempts or "")


def _reason(run: ParkedRun) -> str:
    if run.parked is None:
        return f"reason unknown: {run.unknown}; the run began at {format_time(run.started_at)}"
    return f"undo: {run.parked.failure}" if run.parked.undo else run.parked.failure


def _json(run: ParkedRun) -> dict[str, object]:
    return asdict(run) | {"parked": run.parked.model_dump(mode="json") if run.parked else None}
