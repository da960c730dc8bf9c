"""Controllers of devices on sockets, which every worker reaches, and what they answer at the step of a case."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import asyncpg

from lastmile.contract import AnyOrder
from lastmile.db import Database
from lastmile.devices.drivers import Endpoint
from lastmile.devices.routing import Controllers
from lastmile.services.device_reconciler import DeviceReconciler
from tests.support.drivers.lastmile_line_driver import Client, Options
from tests.support.line_controller import Answer, LineController, Request
from tests.support.orders import NEW_PLAN, PLAN
from tests.workflows.every_way.cases import Case, Fault
from tests.workflows.every_way.rules.controlled_lines import CALLS

__all__ = ["CaseControllers", "ControllerUrls"]

_ANSWERS: dict[Fault, Answer] = {
    Fault.DEVICE_WAITS: {"waits_for": "the device is offline"},
    Fault.DEVICE_NOT_SEEN: {"unseen": "the device was never seen"},
    Fault.CONTROLLER_AWAY: {"away": "the controller is away"},
    Fault.CONTROLLER_AWAY_ONCE: {"away": "the controller is away"},
    Fault.CONTROLLER_UNREPORTED: {"away": "the controller has not answered"},
    Fault.CONTROLLER_REFUSES: {"refused": "the controller has no such profile"},
    Fault.DEVICE_AMBIGUOUS: {"ambiguous": "two devices have this serial number"},
    Fault.UNDO_WAITS: {"waits_for": "the device is offline"},
}
_ONCE = {Fault.CONTROLLER_AWAY_ONCE, Fault.CONTROLLER_UNREPORTED}


class ControllerUrls(NamedTuple):
    """Where the controllers answer, for a worker in any process."""

    onu: str
    cpe: str

    def clients(self) -> Controllers:
        """Return clients of the controllers, each of which has all devices of its kind."""
        return Controllers.everywhere(*(Client(Endpoint(url), Options()) for url in self))


class CaseControllers:
    """A controller of ONUs and one of CPEs."""

    def __init__(self, onu: LineController, cpe: LineController) -> None:
        self._servers = {"onu": onu, "cpe": cpe}
        self.urls = ControllerUrls(onu.url, cpe.url)
        self._sweeping = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[Self]:
        async with LineController() as onu, LineController() as cpe:
            yield cls(onu, cpe)

    def on(self, tenant: str) -> list[dict[str, Any]]:
        """Return the tenant's devices that are on."""
        return [device for server in self._servers.values() for (of, _), device in server.on.items() if of == tenant]

    def script(self, case: Case, order: AnyOrder) -> None:
        """Let the controller of the step's device answer as the case says; nothing where the fault is none of it."""
        if case.fault not in _ANSWERS:
            return
        kind = "onu" if "onu" in case.activity else "cpe"
        server = self._servers[kind]
        call = CALLS[case.undo if case.fault.of_undo else case.activity]
        present = self.on(order.tenant)
        answered = 0

        def back(request: Request) -> bool:
            """Whether the call takes the step back."""
            if call == "speed":
                return bool(request["device"]["download_kbps"] == PLAN.download_kbps)
            return call == "on" and request["device"] in present

        def answer(request: Request) -> Answer | None:
            nonlocal answered
            if request["call"] != call or (call != "off" and back(request) is not case.fault.of_undo):
                return None
            answered += 1
            if case.fault in _ONCE and answered > 1:
                return None
            if case.fault is Fault.CONTROLLER_UNREPORTED:
                server.follow(request)
            return _ANSWERS[case.fault]

        server.scripts[order.tenant] = answer

    async def wrong(self, database: Database, owner: asyncpg.Pool, tenant: str) -> Counter[str]:
        """Count the devices that wait, and those that are not as their rows say, also once all devices have come."""
        waiting = [row["identity"] for row in await owner.fetch(_WAITING, tenant)]
        found = Counter({"device waits": len(waiting)})
        found["device not as recorded"] = len(await self._differ(owner, tenant) - set(waiting))
        for server in self._servers.values():
            server.scripts.pop(tenant, None)
        async with self._sweeping:  # one sweep takes what is due of every tenant
            await owner.execute("UPDATE pending_device_calls SET due_at = now() WHERE tenant_id = $1", tenant)
            await DeviceReconciler(database, self.urls.clients().by_kind).sweep()
        found["device not followed"] = len(await owner.fetch(_WAITING, tenant))
        found["device not as recorded"] += len(await self._differ(owner, tenant))
        return +found

    async def _differ(self, owner: asyncpg.Pool, tenant: str) -> set[str]:
        """Return the devices whose state, place or rates at a controller differ from what their rows say."""
        there = {(device["identity"], *map(device.get, _COMPARED)) for device in self.on(tenant)}
        rows = await owner.fetch(_IN_SERVICE, tenant)
        return {identity for identity, *_ in there ^ {(*row[:-2], *_rates(row)) for row in rows}}


def _rates(row: asyncpg.Record) -> tuple[int | None, int | None]:
    plan = {plan.name: plan for plan in (PLAN, NEW_PLAN)}[row["plan"]]
    return (plan.download_kbps, plan.upload_kbps) if row["kind"] == "onu" else (None, None)


_PLACE = ("olt", "pon_port", "s_vlan", "c_vlan")
_COMPARED = (*_PLACE, "download_kbps", "upload_kbps")
_WAITING = "SELECT identity FROM pending_device_calls WHERE tenant_id = $1"
_IN_SERVICE = (
    f"SELECT identity, {', '.join(_PLACE)}, kind, plan FROM devices JOIN subscribers USING (tenant_id)"
    " JOIN network_profiles n ON n.subscriber_id = subscribers.id"
    " JOIN billing_services b ON b.subscriber_id = subscribers.id WHERE devices.tenant_id = $1 AND in_service"
)
