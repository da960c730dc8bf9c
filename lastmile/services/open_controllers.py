"""The clients of the controllers in the database, which a worker opens once and keeps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, Self, cast

import structlog
from sqlalchemy.exc import SQLAlchemyError

from lastmile.background import Sweeper
from lastmile.db import Database
from lastmile.devices.controllers import Controller, LineDevice, OnuController, Outcome
from lastmile.devices.errors import ControllerUnavailableError
from lastmile.devices.installed_drivers import DriverError, find_driver, validate_options
from lastmile.devices.records import DeviceKind
from lastmile.devices.routing import Controllers, OnuRouter, Route, Router
from lastmile.encryption.keys import KeyRing
from lastmile.errors import LastmileError
from lastmile.services.controllers import StoredController, list_controllers

__all__ = ["ControllerPool", "OpenController", "open_controller"]

INTERVAL = timedelta(seconds=10)
"""The pause after which a worker looks for changes of the controllers."""

log = structlog.get_logger("lastmile.controllers")


class OpenController:
    """A client of one controller, with at most `in_flight` calls at once.

    One task enters and leaves the driver's context: a driver may use a task group in it.
    """

    def __init__(self, name: str, in_flight: int) -> None:
        self._name = name
        self._in_flight = in_flight
        self._calls = asyncio.Semaphore(in_flight)
        self._closing = asyncio.Event()
        self._life: asyncio.Task[None]

    @classmethod
    async def open(cls, name: str, in_flight: int, client: AbstractAsyncContextManager[Controller]) -> Self:
        """Enter the client. Raises the errors of `lastmile.devices.errors`."""
        self = cls(name, in_flight)
        entered = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(client, entered))
        try:
            await entered
        except BaseException:
            self._life.cancel()
            raise
        return self

    @property
    def alive(self) -> bool:
        """Whether the client is open."""
        return not self._life.done()

    @property
    def forgets(self) -> bool:
        """Whether the controller can lose what it was told; a driver that does not say so has one that cannot."""
        return bool(getattr(self._controller, "forgets", False))

    def close(self) -> None:
        """Refuse further calls, and close the client when the present calls have ended."""
        self._closing.set()

    async def wait_closed(self) -> None:
        """Wait until the client is closed."""
        await asyncio.wait([self._life])

    async def check(self) -> str:
        """Return the product and its version."""
        async with self._call() as controller:
            return await controller.check()

    async def switch_on(self, device: LineDevice) -> Outcome:
        """Activate the ONU, or configure the CPE."""
        async with self._call() as controller:
            return await controller.switch_on(device)

    async def switch_off(self, device: LineDevice) -> Outcome:
        """Deactivate the ONU, or remove the configuration of the CPE."""
        async with self._call() as controller:
            return await controller.switch_off(device)

    async def set_speed(self, device: LineDevice) -> Outcome:
        """Give the line on the ONU its rates. Only a controller of ONUs is asked."""
        async with self._call() as controller:
            return await cast(OnuController, controller).set_speed(device)

    async def _live(self, client: AbstractAsyncContextManager[Controller], entered: asyncio.Future[None]) -> None:
        try:
            async with _in_our_words(self._name), client as self._controller:
                entered.set_result(None)
                await self._closing.wait()
                for _ in range(self._in_flight):  # until no call is left
                    await self._calls.acquire()
        except LastmileError as failure:
            if not entered.done():
                entered.set_exception(failure)

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[Controller]:
        self._refuse_if_closing()  # after the last call, no slot is free again
        async with self._calls:
            self._refuse_if_closing()
            async with _in_our_words(self._name):
                yield self._controller

    def _refuse_if_closing(self) -> None:
        if self._closing.is_set():
            raise ControllerUnavailableError(f"Controller {self._name} has just been changed or removed.")


class UnusableController:
    """A controller that cannot be opened: each call says why."""

    forgets = False

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def check(self) -> str:
        """Raise `ControllerUnavailableError`, as every method does."""
        self._refuse()

    async def switch_on(self, device: LineDevice) -> Outcome:
        """Raise `ControllerUnavailableError`."""
        self._refuse()

    async def switch_off(self, device: LineDevice) -> Outcome:
        """Raise `ControllerUnavailableError`."""
        self._refuse()

    async def set_speed(self, device: LineDevice) -> Outcome:
        """Raise `ControllerUnavailableError`."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ControllerUnavailableError(self.reason)


@dataclass(frozen=True, slots=True)
class _Member:
    stored: StoredController
    controller: OpenController | UnusableController


class ControllerPool(Sweeper):
    """The controllers of the database, open within `async with`. A change in the database takes effect by itself."""

    pause, away = INTERVAL, (OSError, TimeoutError, SQLAlchemyError)
    unavailable, failed = "controller.sweep_unavailable", "controller.sweep_failed"

    def __init__(self, database: Database, keys: KeyRing | None) -> None:
        self._database = database
        self._keys = keys
        self._members: dict[str, _Member] = {}
        self._closing: list[OpenController] = []
        self.controllers = Controllers(OnuRouter(DeviceKind.ONU), Router(DeviceKind.CPE))

    async def __aenter__(self) -> Self:
        # Without the controllers, steps would be skipped: a failure here must keep the worker from its work.
        await self.sweep()
        return await super().__aenter__()

    async def __aexit__(self, *failure: object) -> None:
        await super().__aexit__(*failure)
        self._take({})
        for controller in self._closing:
            await controller.wait_closed()

    async def sweep(self) -> None:
        """Open what is new or has changed, and close what is gone."""
        members = {}
        for stored in await list_controllers(self._database):
            known = self._members.get(stored.name)
            usable = known is not None and isinstance(known.controller, OpenController) and known.controller.alive
            members[stored.name] = known if known and usable and known.stored == stored else await self._open(stored)
        self._take(members)

    async def _open(self, stored: StoredController) -> _Member:
        try:
            opened = await open_controller(stored, self._keys)
        except Exception as failure:  # a fault of one driver must keep no worker from its work
            words = (
                str(failure) if isinstance(failure, LastmileError) else f"its driver failed ({type(failure).__name__})"
            )
            reason = f"Controller {stored.name} cannot be used: {words}"
            known = self._members.get(stored.name)
            if known is None or getattr(known.controller, "reason", None) != reason:
                log.error("controller.unusable", controller=stored.name, reason=reason)
            return _Member(stored, UnusableController(reason))
        log.info("controller.opened", controller=stored.name, driver=stored.driver)
        return _Member(stored, opened)

    def _take(self, members: dict[str, _Member]) -> None:
        """Let calls go to these controllers from now on, and close the others."""
        gone = [member for name, member in self._members.items() if members.get(name) is not member]
        self._members = members
        self.controllers.onu.routes = self._routes(DeviceKind.ONU)
        self.controllers.cpe.routes = self._routes(DeviceKind.CPE)
        for member in gone:
            if isinstance(member.controller, OpenController):
                member.controller.close()
                self._closing.append(member.controller)
                log.info("controller.closed", controller=member.stored.name)

    def _routes(self, kind: DeviceKind) -> list[Route[Any]]:
        return [
            Route(member.stored.scope, member.controller)
            for member in self._members.values()
            if member.stored.kind is kind
        ]


async def open_controller(stored: StoredController, keys: KeyRing | None) -> OpenController:
    """Open a client of the controller.

    Raises:
        DriverError: the driver is not installed, or is for other devices than before.
        InvalidInputError: the driver does not take the options.
        DecryptionError: this process lacks the key that encrypts the secret.
        ControllerUnavailableError: the driver cannot open the client.
    """
    driver = find_driver(stored.driver)
    if driver.kind is not stored.kind:
        raise DriverError(f"Driver {stored.driver} now controls {driver.kind.upper()}s. Add the controller again.")
    options = validate_options(stored.driver, driver, stored.options)
    endpoint = stored.endpoint(keys)
    async with _in_our_words(stored.name):
        client = driver.open(endpoint, options)
    return await OpenController.open(stored.name, stored.in_flight, client)


@asynccontextmanager
async def _in_our_words(name: str) -> AsyncIterator[None]:
    """Replace an error that no driver may raise: its text can contain a secret."""
    try:
        yield
    except LastmileError:
        raise
    except Exception as failure:
        log.exception("controller.driver_failed", controller=name)  # the log leaves the text out, too
        kind = type(failure).__name__
        raise ControllerUnavailableError(
            f"The driver of controller {name} failed with {kind}: the log of this process says where."
        ) from None
