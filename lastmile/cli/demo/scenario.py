"""The demo's scenario: orders become lines, controllers and FreeRADIUS confirm them, one changes, one ends."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from urllib.parse import quote

from rich.text import Text
from temporalio.client import WorkflowFailureError

from ipam.modes import NetBoxMode
from ipam.pools import Pool
from lastmile.cli.demo.access_network import TENANT, TENANT_NAME, DemoAccessNetwork
from lastmile.cli.demo.curl import CurlFailedError, send_with_curl
from lastmile.cli.demo.dashboard import NAME, DemoDashboard
from lastmile.cli.demo.line_changes import CPES, LineChanges
from lastmile.cli.demo.nas import DemoNas, Login, expected_addresses
from lastmile.cli.demo.netbox import POOL, DemoNetBox
from lastmile.cli.demo.orders import Example, deprovision_order, example_orders
from lastmile.cli.operations.devices import HEADINGS, devices_row
from lastmile.cli.orders.import_report import addresses
from lastmile.cli.output import console, make_table, outcome_text, print_text
from lastmile.client.operator_client import OperatorClient
from lastmile.contract import AnyOrder, OrderResult, ProvisionSubscriber, ResultStatus, RunStatus
from lastmile.contract.addressing import IPv4Mode, Purpose
from lastmile.contract.results import StepOutcome
from lastmile.db import Database
from lastmile.devstack.stack import Stack
from lastmile.fields.phrases import format_time
from lastmile.radius.logins import username
from lastmile.radius.nas import NasRecord
from lastmile.radius.passwords import read_password
from lastmile.services.devices import DeviceState
from lastmile.services.nas import add_nas
from lastmile.services.overview import Overview, find_overview
from lastmile.services.pools import add_pool, list_pools
from lastmile.settings import Settings

__all__ = ["Scenario"]

POOLS = (
    Pool(name="home", prefix="2001:db8::/40", purpose=Purpose.IPV6_PD, delegated_length=56, tenant=TENANT),
    Pool(name="business", prefix="2001:db8:8000::/36", purpose=Purpose.IPV6_PD, delegated_length=48, tenant=TENANT),
    Pool(name="static", prefix="198.51.100.0/24", purpose=Purpose.IPV4, delegated_length=32, tenant=TENANT),
)
CURL_SUBSCRIBER = "S-1003"
"""Its order goes through the REST API."""
_GOOD = (ResultStatus.COMPLETED, ResultStatus.DEGRADED)


@dataclass(frozen=True, slots=True)
class CompletedRun:
    """An order with its result, and the seconds that its caller waited."""

    order: AnyOrder
    result: OrderResult
    seconds: float
    link: str


class Scenario:
    """Runs on a running stack. A later run continues the orders of an interrupted run."""

    def __init__(
        self,
        stack: Stack,
        operator: OperatorClient,
        database: Database,
        access_network: DemoAccessNetwork,
        netbox: DemoNetBox | None,
    ) -> None:
        self._stack = stack
        self._operator = operator
        self._database = database
        self._access_network = access_network
        self._netbox = netbox
        self._proven = True
        self._completed: list[CompletedRun] = []

    async def run(self) -> bool:
        """Run all chapters. Return whether every check passed."""
        await self._set_up()
        sent, lines = await self._provision()
        radius = self._stack.radius
        nas = DemoNas(radius, self._stack.nas.address) if radius else None
        leaver = _line_to_deprovision(sent)
        await self._show_technician(next(example for example in sent if example.order == leaver))
        await self._show_devices(sent)
        if nas is not None:
            await self._log_in(nas, lines, leaver)
            await self._change(nas, lines, leaver)
        else:
            _chapter("Left out: FreeRADIUS is not installed, so no line could log in to prove itself.")
        await self._deprovision(nas, leaver)
        await self._show_netbox(leaver)
        await self._show_dashboard()
        self._end()
        return self._proven

    async def _set_up(self) -> None:
        _chapter("A tenant, its pools, a NAS, and the controllers of ONUs and CPEs")
        nas = self._stack.nas
        pools = [*POOLS, *([await self._netbox.pool(TENANT, TENANT_NAME)] if self._netbox else [])]
        for pool in pools:
            # The demo's NetBox has returned the ids of the pool's prefix already.
            await add_pool(self._database, None, pool, actor="demo", force=True, demonstration=True)
        record = NasRecord(
            address=nas.address, name="demo", secret=nas.secret.decode(), coa_port=nas.port, type="wispr"
        )
        await add_nas(self._database, record, actor="demo")
        uses = [use for use in await list_pools(self._database) if use.pool in pools]
        rows = [
            (
                u.pool.name,
                str(u.pool.prefix),
                f"/{u.pool.delegated_length}",
                f"{u.free:,}",
                f"{u.taken:,}",
                "in NetBox" if isinstance(u.pool.netbox, NetBoxMode) else "in the database",
            )
            for u in uses
        ]
        console.print(make_table("", ("pool", "space", "gives", "free", "held", "kept"), rows))
        print_text(
            f"Controllers: VOLTHA at {self._stack.olt.url} for ONUs, GenieACS at {self._stack.acs.url} for CPEs."
        )

    async def _provision(self) -> tuple[list[Example], list[CompletedRun]]:
        in_netbox = self._netbox is not None
        await self._finish_deprovision(_line_to_deprovision(await example_orders(self._database, in_netbox=in_netbox)))
        sent = await example_orders(self._database, in_netbox=in_netbox)
        _chapter(f"{len(sent)} orders become lines")
        late = _line_to_deprovision(sent)
        self._access_network.connect(example.order for example in sent if example.order != late)
        for mac in CPES:
            self._access_network.connect_cpe(mac)
        completed = await asyncio.gather(*(self._send(example.order) for example in sent))
        rows = [
            (
                one.order.order_id,
                one.order.subscriber_ref,
                _line(example.order),
                outcome_text(one.result.status),
                addresses(one.result.created) or "from the NAS",
                f"{one.seconds:.2f}",
            )
            for example, one in zip(sent, completed, strict=True)
        ]
        console.print(make_table("", ("order", "subscriber", "line", "outcome", "addresses", "seconds"), rows))
        self._completed += completed
        notes = defaultdict(list)
        for example, one in zip(sent, completed, strict=True):
            notes[_note(example, one)].append(one.order.order_id)
        for note, orders in notes.items():
            if note:
                print_text(f"{', '.join(orders)}: {note}.")
        return sent, completed

    async def _show_technician(self, example: Example) -> None:
        """Connect the devices of the line whose order came before the technician."""
        order = example.order
        _chapter(f"The technician visits {order.subscriber_ref}, whose order came before the visit")
        before = await self._access_network.devices(order.subscriber_ref)
        print_text(f"$ lastmile devices {order.subscriber_ref}")
        _print_devices(before)
        waits = bool(before) and all(device.waits_for for device in before)
        if not waits and example.ended_at:
            print_text("The technician of the interrupted demo has connected them: nothing waits.")
        self._proven &= waits or example.ended_at is not None
        self._access_network.connect([order])
        began = monotonic()
        print_text("The technician connects them, and an operator has the controllers asked now:")
        print_text(f"$ lastmile devices {order.subscriber_ref} --retry")
        _print_devices(await self._access_network.retry(order.subscriber_ref))
        print_text(f"That took {monotonic() - began:.1f} s.")

    async def _show_devices(self, lines: Sequence[Example]) -> None:
        """Show whether the controllers have confirmed the devices of all lines."""
        found = [device for line in lines for device in await self._access_network.devices(line.order.subscriber_ref)]
        left = [device for device in found if not (device.in_service and device.confirmed)]
        self._proven &= bool(found) and not left
        if left:
            print_text("WRONG: the controllers have not brought these devices into service.")
            _print_devices(left)
        else:
            print_text(f"The {len(found)} ONUs and CPEs of all lines are in service, as the controllers confirm.")

    async def _send(self, order: ProvisionSubscriber) -> CompletedRun:
        """Carry the order out: that of one subscriber through the REST API, the others with the client."""
        if order.subscriber_ref == CURL_SUBSCRIBER:
            began = monotonic()
            try:
                if result := await send_with_curl(self._stack.api_url, self._stack.api_token, order):
                    seconds = monotonic() - began
                    run = await self._operator.client.get_workflow_handle(order.workflow_id).describe()
                    self._proven &= result.status in _GOOD
                    return CompletedRun(order, result, seconds, self._link(run.id, run.run_id))
            except CurlFailedError as failure:
                print_text(f"WRONG: the API did not carry out order {order.order_id}: {failure}")
                self._proven = False
        return await self._carry_out(order)

    async def _finish_deprovision(self, order: ProvisionSubscriber) -> None:
        """Wait for the deprovision order of an interrupted demo: Temporal has continued it."""
        # Query an open run only: this version may not be able to replay the history of a closed run.
        if not await self._operator.open_order(order.tenant, order.subscriber_ref):
            return
        progress = await self._operator.orders.progress(order.tenant, order.subscriber_ref)
        if progress is None or progress.status is RunStatus.ENDED:
            return
        down = await deprovision_order(self._database, order)
        if progress.order_id == down.order_id:
            print_text(f"The last demo stopped while it deprovisioned {order.subscriber_ref}; this finishes first.")
            await self._carry_out(down)

    async def _log_in(self, nas: DemoNas, lines: Sequence[CompletedRun], stays: ProvisionSubscriber) -> None:
        """Log each line in, with a session for each login; the session of `stays` remains open."""
        _chapter("Each line logs in at FreeRADIUS, and gets exactly what was allocated to it")
        rows = []
        for line in lines:
            user = _user(line.order)
            login = await nas.log_in(user, await self._password(line.order), _circuit(line.order))
            if login.accepted:
                session = await nas.start_session(user)
                if line.order.subscriber_ref != stays.subscriber_ref:
                    await nas.stop_session(user, session)
            matches = login.accepted and login.addresses == expected_addresses(line.result.created)
            self._proven &= matches
            verdict = Text("right", style="green") if matches else Text("WRONG", style="bold red")
            rows.append((line.order.subscriber_ref, login.reply, _items(login) or "no address", verdict))
        console.print(make_table("", ("subscriber", "reply", "addresses", "verdict"), rows))

    async def _change(self, nas: DemoNas, lines: Sequence[CompletedRun], stays: ProvisionSubscriber) -> None:
        """Change the first line that is not deprovisioned afterwards."""
        line = next(line for line in lines if line.order.subscriber_ref != stays.subscriber_ref)
        _chapter(f"{line.order.subscriber_ref} gets another plan and CPE, is suspended, and resumes")

        async def carry_out(order: AnyOrder) -> OrderResult:
            self._completed.append(completed := await self._carry_out(order))
            return completed.result

        changes = LineChanges(self._database, nas, line.order, carry_out)
        user, password = _user(line.order), await self._password(line.order)
        self._proven &= await changes.run(
            line.result.created, user, partial(nas.log_in, user, password, _circuit(line.order))
        )

    async def _password(self, order: AnyOrder) -> str:
        async with self._database.tenant(order.tenant) as connection:
            return await read_password(connection, _user(order)) or "none"

    async def _deprovision(self, nas: DemoNas | None, order: ProvisionSubscriber) -> None:
        _chapter(f"{order.subscriber_ref} is deprovisioned")
        user, password = _user(order), await self._password(order)
        before = await self._find(order)
        for session in before.sessions:
            print_text(f"It is online: session {session['session']} on {self._stack.nas}.")
        down = await self._carry_out(await deprovision_order(self._database, order))
        self._completed.append(down)
        steps = {step.step: step for step in down.result.steps}
        rows = [(s.step, outcome_text(s.outcome or ""), f"{s.seconds or 0:.2f}", s.reason) for s in steps.values()]
        console.print(make_table("", ("step", "outcome", "seconds", "reason"), rows))
        if nas:
            for gone in before.sessions:
                if steps["revoke_ipv6_lifecycle"].outcome is StepOutcome.DONE:
                    print_text(f"{self._stack.nas} acknowledged the Disconnect-Request for session {gone['session']}.")
                await nas.stop_session(user, gone["session"])
            login = await nas.log_in(user, password, _circuit(order))
            refused = not login.accepted and not login.addresses
            self._proven &= refused
            print_text(
                f"The next login gets {login.reply} {'without any address' if refused else ', '.join(_items(login))}."
            )
        for quarantined in (await self._find(order)).quarantine:
            until = format_time(quarantined["until"])
            print_text(f"{quarantined['prefix']} is in quarantine until {until}: no other subscriber gets it.")

    async def _show_netbox(self, leaver: ProvisionSubscriber) -> None:
        if self._netbox is None:
            _chapter("Left out: NETBOX_URL names a NetBox of yours, and the demo creates nothing there.")
            return
        _chapter(f"What NetBox's owner sees of pool {POOL}")
        if not await self._netbox.caught_up():
            print_text("WRONG: NetBox does not have every record yet. See worker.log in the stack's logs.")
            self._proven = False
        records = await self._netbox.records()
        self._proven &= "deprecated" in [one.status for one in records if one.subscriber_ref == leaver.subscriber_ref]
        rows = [(str(one.prefix), outcome_text(one.status), one.tenant or "", one.description) for one in records]
        console.print(make_table("", ("prefix", "status", "tenant", "detail"), rows))

    async def _show_dashboard(self) -> None:
        prometheus = self._stack.prometheus
        if prometheus is None:
            _chapter("Left out: Prometheus is not installed, so the demo does not show the dashboard.")
            return
        _chapter(f"What Grafana shows on its dashboard {NAME}")
        print_text(f"From the Prometheus that watches the worker, {prometheus.url}")
        try:
            panels = await DemoDashboard(prometheus, self._operator.client, Settings.load().task_queue).panels()
        except (TimeoutError, WorkflowFailureError):
            print_text("WRONG: Prometheus has no new values. See worker.log and prometheus.log in the stack's logs.")
            self._proven = False
            return
        console.print(
            make_table("", ("panel", "shows"), [(one.panel, one.words or "WRONG: nothing") for one in panels])
        )
        self._proven &= all(one.words for one in panels)

    def _end(self) -> None:
        _chapter("Every run, step by step, in the Temporal UI")
        for one in self._completed:
            print_text(f"{one.order.order_id:12}  {one.link}")
        console.print()

    async def _carry_out(self, order: AnyOrder) -> CompletedRun:
        began = monotonic()
        run = await self._operator.orders.start(order)
        result = await run.result()
        self._proven &= result.status in _GOOD
        handle = run.handle
        link = self._link(handle.id, handle.result_run_id or handle.run_id or "")
        return CompletedRun(order, result, monotonic() - began, link)

    def _link(self, id: str, run_id: str) -> str:
        """Return the run's page in the Temporal UI; without the stack's UI, the ids of the run."""
        if self._stack.temporal_ui is None:
            return f"{id}, run {run_id}"
        namespace = self._operator.client.namespace
        return f"{self._stack.temporal_ui}/namespaces/{namespace}/workflows/{quote(id, safe='')}/{run_id}/history"

    async def _find(self, order: AnyOrder) -> Overview:
        return await find_overview(self._database, order.tenant, order.subscriber_ref)


def _print_devices(devices: Sequence[DeviceState]) -> None:
    console.print(make_table("", HEADINGS, [devices_row(device) for device in devices]))


def _chapter(heading: str) -> None:
    console.print()
    console.rule(Text(heading, style="bold"), align="left", style="dim")


def _line_to_deprovision(sent: Sequence[Example]) -> ProvisionSubscriber:
    """Choose the line to deprovision: the first with a prefix in NetBox, otherwise the first."""
    orders = [example.order for example in sent]
    return next((order for order in orders if order.addressing.ipv6_pool == POOL), orders[0])


def _user(order: AnyOrder) -> str:
    return username(order.tenant, order.subscriber_ref)


def _circuit(order: AnyOrder) -> str | None:
    return None if order.requested_line is None else order.requested_line.line.circuit_id


def _line(order: ProvisionSubscriber) -> str:
    """Describe the ordered line."""
    asked = order.addressing
    ipv6 = f"/{asked.ipv6_pd_size}" if asked.enable_ipv6 else "no IPv6"
    ipv4 = "" if asked.ipv4_mode is IPv4Mode.NONE else f", {asked.ipv4_mode} IPv4"
    return f"{order.line.connection_type} {ipv6}{ipv4}"


def _note(example: Example, run: CompletedRun) -> str:
    """Describe what is special about the order's result; empty if nothing is."""
    if run.result.reason:
        return run.result.reason
    notes = list(run.result.warnings)
    if example.ended_at:
        notes.append(f"ended on {example.ended_at:%Y-%m-%d} already; the same order again gives the same result")
    elif back := [prefix for prefix in example.quarantined if prefix in addresses(run.result.created)]:
        notes.append(f"back, and {', '.join(back)} comes out of quarantine for it")
    return "; ".join(notes)


def _items(login: Login) -> list[str]:
    return [f"{attribute}={value}" for attribute, value in sorted(login.addresses)]
