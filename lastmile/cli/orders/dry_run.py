"""`--dry-run`: what orders would do."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from lastmile.cli.connections import load_settings, open_api, open_database
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, make_table, outcome_text, print_json
from lastmile.contract import AnyOrder
from lastmile.services.dry_run import OrderPlan, StepPlan, dry_run
from lastmile.services.order_files.reader import NumberedOrder, read_orders
from lastmile.settings import Settings

__all__ = ["show_plan", "show_plans"]


async def show_plans(source: str, as_json: bool) -> Exit:
    """Show what the orders of a file would do, and start nothing."""
    return await _show(load_settings(), read_orders(source), as_json=as_json)


async def show_plan(settings: Settings, order: AnyOrder, *, as_json: bool) -> Exit:
    """Show what the order would do, and start nothing."""
    numbered = NumberedOrder(1, order)
    if settings.api_url is None:
        return await _show(settings, [numbered], as_json=as_json)
    async with open_api(settings) as operator:
        plan = await operator.orders.plan(order)
    return _print([OrderPlan(numbered, [StepPlan(**step) for step in plan["steps"]])], as_json=as_json)


async def _show(settings: Settings, orders: Sequence[NumberedOrder], *, as_json: bool) -> Exit:
    async with open_database(settings) as database:
        plans = await dry_run(database, orders)
    return _print(plans, as_json=as_json)


def _print(plans: Sequence[OrderPlan], *, as_json: bool) -> Exit:
    if as_json:
        for plan in plans:
            print_json(plan.as_json())
    else:
        console.print(_table(plans))
        refused = sum(plan.refused for plan in plans)
        console.print(f"Nothing was started. {len(plans) - refused} of {len(plans)} orders would be carried out.")
    return Exit.FAILED if any(plan.refused for plan in plans) else Exit.DONE


def _table(plans: Sequence[OrderPlan]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for plan in plans:
        for index, step in enumerate(plan.steps):
            head = (plan.numbered.line, plan.numbered.order.order_id) if index == 0 else ("", "")
            rows.append((*head, step.step, outcome_text(step.action), step.detail))
        rows.append(("",) * 5)
    return make_table("", ("line", "order", "step", "action", "detail"), rows[:-1])
