"""`lastmile up` and `lastmile demo`: the embedded stack in the foreground, without or with the demo's scenario."""

import asyncio
from contextlib import AsyncExitStack, suppress
from time import monotonic

from lastmile.cli.connections import connect_temporal, load_settings, open_database
from lastmile.cli.demo.access_network import DemoAccessNetwork, add_controllers, remove_controllers
from lastmile.cli.demo.netbox import DemoNetBox
from lastmile.cli.demo.orders import EXAMPLES
from lastmile.cli.demo.scenario import Scenario
from lastmile.cli.exit_codes import Exit
from lastmile.cli.netbox.connection import open_netbox
from lastmile.cli.output import console, fact_table, print_text
from lastmile.devstack.stack import Stack
from lastmile.devstack.up import until_interrupted, up
from lastmile.errors import UnavailableError
from lastmile.settings import Settings

__all__ = ["demo", "run_stack"]

FIRST_ORDER = f"""\
Once it runs, the first order, from another terminal:
    lastmile tenant add acme --name "Acme Broadband"
    lastmile pool add home 2001:db8::/40 --purpose ipv6_pd --length 56 --tenant acme
    head -1 {EXAMPLES}/orders.jsonl | lastmile provision -"""


async def run_stack() -> Exit:
    """Run the stack until Ctrl-C."""
    # Without the settings of a running stack: this stack would use the other stack's servers.
    settings = load_settings(with_stack=False)
    print_text(FIRST_ORDER)
    await up(settings.state_dir, settings, console)
    return Exit.DONE


async def demo(keep: bool) -> Exit:
    """Start the stack, run the scenario, and stop everything; with `keep`, at Ctrl-C."""
    settings = load_settings(with_stack=False)
    proven: bool | None = None
    async with until_interrupted():
        print_text("Starting PostgreSQL, Temporal, FreeRADIUS, a NAS, a NetBox, an OLT, an ACS, a worker and the API …")
        began = monotonic()
        async with Stack(settings.state_dir, settings, say=print_text, before_worker=add_controllers) as stack:
            print_text(f"All of it runs, after {monotonic() - began:.1f} s.")
            try:
                proven = await _run_scenario(stack)
                if keep:
                    console.print(fact_table("", stack.addresses))
                    print_text("The stack keeps running, for you to look around. Ctrl-C stops it.")
                    await stack.watch()
            finally:
                with suppress(UnavailableError):  # the database may be the server that has stopped
                    await remove_controllers(stack)
            print_text("Stopping everything …")
    if proven is None:
        print_text("Stopped before the end. `lastmile demo` continues where this one stopped.")
        return Exit.INTERRUPTED
    again = "`lastmile demo` again shows the same orders giving the same results, and a line coming back."
    print_text(f"Stopped. {again} `lastmile up` runs the stack; the links above work while it does.")
    return Exit.DONE if proven else Exit.FAILED


async def _run_scenario(stack: Stack) -> bool:
    """Run the scenario while the stack runs. A server that stops by itself ends the scenario."""
    scenario = asyncio.create_task(_scenario(stack))
    servers = asyncio.create_task(stack.watch())
    try:
        done, _ = await asyncio.wait({scenario, servers}, return_when=asyncio.FIRST_COMPLETED)
        return await scenario if scenario in done else await servers
    finally:
        for task in (scenario, servers):
            task.cancel()
        await asyncio.gather(scenario, servers, return_exceptions=True)


async def _scenario(stack: Stack) -> bool:
    settings = Settings.load()
    operator = await connect_temporal(settings)
    async with AsyncExitStack() as opened:
        database = await opened.enter_async_context(open_database(settings))
        netbox = None
        if stack.netbox:  # the stack's own: the demo creates nothing in another NetBox
            netbox = DemoNetBox(await opened.enter_async_context(open_netbox(settings)), database)
        return await Scenario(stack, operator, database, DemoAccessNetwork(stack, database), netbox).run()
