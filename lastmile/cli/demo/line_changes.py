"""The demo's changes of one line: another plan, another CPE, suspend, resume. FreeRADIUS confirms each change."""

from collections.abc import Awaitable, Callable
from typing import Any

from rich.text import Text

from lastmile.cli.demo.nas import DemoNas, Login, expected_addresses
from lastmile.cli.output import console, make_table, outcome_text, print_text
from lastmile.contract import (
    AnyOrder,
    ChangePlan,
    Created,
    Operation,
    OrderResult,
    ReplaceDevice,
    ResumeSubscriber,
    SuspendSubscriber,
)
from lastmile.contract.lines import ServicePlan
from lastmile.contract.suspension import SuspensionMode
from lastmile.db import Database
from lastmile.services.overview import Overview, find_overview

__all__ = ["LineChanges"]

CarryOut = Callable[[AnyOrder], Awaitable[OrderResult]]
LogIn = Callable[[], Awaitable[Login]]

PLANS = (
    ServicePlan(name="home-2000", download_kbps=2_000_000, upload_kbps=1_000_000),
    ServicePlan(name="home-1000", download_kbps=1_000_000, upload_kbps=500_000),
)
CPES = ("00:1A:2B:00:20:01", "00:1A:2B:00:20:02")


class LineChanges:
    """Changes the line of an order that is in service.

    Args:
        carry_out: Runs an order and returns its result.
    """

    def __init__(self, database: Database, nas: DemoNas, order: AnyOrder, carry_out: CarryOut):
        self._database = database
        self._nas = nas
        self._line = order
        self._carry_out = carry_out
        self._proven = True
        self._rows: list[tuple[Any, ...]] = []

    async def run(self, created: Created, user: str, log_in: LogIn) -> bool:
        """Send the orders one after the other, and show them. Return whether every login got the expected reply."""
        known = await self._known()
        if any(row["ended_at"] is None for row in known.suspensions):
            print_text("The last demo stopped while the line was suspended: it resumes first.")
            await self._carry_out(await self._order(ResumeSubscriber))
        session = await self._nas.start_session(user)
        plan = next(plan for plan in PLANS if plan.name not in {row["plan"] for row in known.billing[-1:]})
        cpe = next(mac for mac in CPES if (known.line or {}).get("cpe_mac", "").upper() != mac)
        changes: list[tuple[str, bool, type[AnyOrder], dict[str, Any]]] = [
            (f"gets plan {plan.name}", True, ChangePlan, {"plan": plan}),
            (f"gets CPE {cpe}", True, ReplaceDevice, {"cpe_mac": cpe}),
            ("is suspended", False, SuspendSubscriber, {"mode": SuspensionMode.BLOCK, "reason": "unpaid invoice"}),
            ("resumes", True, ResumeSubscriber, {}),
        ]
        for words, online, model, values in changes:
            result = await self._carry_out(await self._order(model, **values))
            await self._show(words, online, result, created, log_in)
        await self._nas.stop_session(user, session)
        console.print(make_table("", ("order", "the line", "outcome", "next login", "rate", "verdict"), self._rows))
        return self._proven

    async def _show(self, words: str, online: bool, result: OrderResult, created: Created, log_in: LogIn) -> None:
        row = (result.order_id, words, outcome_text(result.status))
        login = await log_in()
        right = login.accepted is online and login.addresses == (expected_addresses(created) if online else frozenset())
        self._proven &= right
        verdict = Text("right", style="green") if right else Text("WRONG", style="bold red")
        self._rows.append((*row, login.reply, login.rate, verdict))
        for text in (*result.warnings, *result.notes):
            print_text(f"{result.order_id}: {text}")

    async def _order(self, model: type[AnyOrder], **values: Any) -> AnyOrder:
        """Return the next order of the type: an interrupted order again, otherwise a new order."""
        sent = [row for row in (await self._known()).orders if row["operation"] == model.operation]
        number = len(sent) if sent and sent[-1]["finished_at"] is None else len(sent) + 1
        head = {
            Operation.SUSPEND: "SU",
            Operation.RESUME: "RE",
            Operation.CHANGE_PLAN: "CP",
            Operation.REPLACE_DEVICE: "RD",
        }
        line = self._line
        return model(
            tenant=line.tenant,
            order_id=f"{head[model.operation]}-{line.subscriber_ref}.{number}",
            subscriber_ref=line.subscriber_ref,
            **values,
        )

    async def _known(self) -> Overview:
        return await find_overview(self._database, self._line.tenant, self._line.subscriber_ref)
