"""The command `lastmile up`, which runs the stack in the foreground until Ctrl-C."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lastmile.devstack.stack import Stack
from lastmile.settings import Settings

__all__ = ["until_interrupted", "up"]


async def up(state_dir: Path, settings: Settings, console: Console) -> None:
    """Start the stack, print its addresses, and stop it at Ctrl-C or SIGTERM, even during its start.

    Raises:
        StackRunningError, PortInUseError, ServerFailedError, TemporalMissingError: with a message for the user.
    """
    async with until_interrupted():
        console.print("Starting …")
        # A user cannot copy a token that is on two lines.
        async with Stack(state_dir, settings, say=partial(console.print, soft_wrap=True)) as stack:
            console.print(_table(stack.addresses))
            console.print("Running. Ctrl-C stops everything.")
            try:
                await stack.watch()
            finally:
                console.print("Stopping …")
    console.print("Stopped.")


@contextlib.asynccontextmanager
async def until_interrupted() -> AsyncIterator[None]:
    """Cancel the block at Ctrl-C (SIGINT) or SIGTERM, once for each signal, and leave it normally."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        if not interrupted:
            raise
        while task.uncancel():
            pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _table(addresses: dict[str, str]) -> Table:
    table = Table(show_header=False, box=None)
    for name, address in addresses.items():
        table.add_row(f"[bold]{name}", address)
    return table
