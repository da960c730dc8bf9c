"""A worker in a process of its own that kills itself, with SIGKILL, at a chosen point of a chosen activity."""

import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum, auto
from multiprocessing.process import BaseProcess

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.current_step import activity_type
from ipam.netbox import NetBox
from lastmile.db import Database
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.faults import Faults, after_closing, listen_to_commits, refused
from tests.support.fork_server import processes
from tests.workflows.every_way.controllers import ControllerUrls
from tests.workflows.every_way.rules.rule import CLOSE
from tests.workflows.every_way.short_waits import Impatient

__all__ = ["Death", "Moment", "end", "start", "until_dead"]


class Moment(Enum):
    """When an activity's worker is lost."""

    BEFORE = auto()
    """It was begun and has done nothing."""
    UNCOMMITTED = auto()
    """Its statements were executed, and its transaction was not committed."""
    BETWEEN = auto()
    """Its first transaction was committed, and its second was not."""
    UNREPORTED = auto()
    """It has done all its work, which nobody was told."""


@dataclass(frozen=True)
class Death:
    """Where the worker dies; `refused_after` has an activity fail first, to begin a rollback."""

    activity: str | tuple[str, str]
    """The type of the activity; or an order id, and the type of an activity of that order."""
    moment: Moment
    refused_after: str | None = None


def start(
    address: str, database_url: str, settings: Settings, death: Death, controllers: ControllerUrls | None = None
) -> BaseProcess:
    """The worker, running."""
    process = processes.Process(target=_main, args=(address, database_url, settings, death, controllers), daemon=True)
    process.start()
    return process


async def until_dead(process: BaseProcess) -> None:
    """Wait until it has killed itself. Raises `AssertionError` where it ended in any other way."""
    await asyncio.to_thread(process.join)
    assert process.exitcode == -signal.SIGKILL, f"the worker ended with {process.exitcode}"


def end(process: BaseProcess) -> None:
    """Whatever has become of it: it is gone after this."""
    process.kill()
    process.join()
    process.close()


def _main(
    address: str, database_url: str, settings: Settings, death: Death, controllers: ControllerUrls | None
) -> None:
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)
    asyncio.run(_work(address, database_url, settings, death, controllers))


async def _work(
    address: str, database_url: str, settings: Settings, death: Death, controllers: ControllerUrls | None
) -> None:
    faults, database = Faults(), Database(database_url)
    if death.refused_after:
        faults.after[death.refused_after] = refused
    match death.moment:
        case Moment.UNCOMMITTED if death.activity == CLOSE:
            faults.after[death.activity] = _die
        case Moment.UNREPORTED if death.activity == CLOSE:
            after_closing(faults, _die)
        case Moment.BEFORE:
            faults.before[death.activity] = _die
        case Moment.UNCOMMITTED:
            _die_at_commit(database, death.activity, 1)
        case Moment.BETWEEN:
            _die_at_commit(database, death.activity, 2)
        case Moment.UNREPORTED:
            faults.after[death.activity] = _die
    client = await Client.connect(
        address, data_converter=pydantic_data_converter, interceptors=[faults], plugins=[Impatient()]
    )
    async with (
        DynamicAuthorization(
            timeout=settings.radius_timeout_seconds, tries=settings.radius_tries, in_flight=8
        ) as authorization,
        AsyncExitStack() as stack,
    ):
        netbox = await stack.enter_async_context(NetBox(**settings.netbox)) if settings.netbox else None
        clients = controllers and controllers.clients()
        worker = build_worker(client, settings, database, authorization, netbox=netbox, controllers=clients)
        await stack.enter_async_context(worker)
        await asyncio.Event().wait()


async def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_commit(database: Database, name: str | tuple[str, str], nth: int) -> None:
    commits = 0

    def at_commit() -> None:
        nonlocal commits
        if activity_type() == name:
            commits += 1
            if commits == nth:
                os.kill(os.getpid(), signal.SIGKILL)

    listen_to_commits(database, at_commit)
