"""Make the pictures of docs/operations/: the real Temporal UI, with real runs. Run it from the repository's root:

    python -m docs.screenshots

It needs Chromium (Debian: chromium, fonts-noto-color-emoji). Look at the pictures before you commit them: a new version
of the UI may show other things in other places.
"""

import asyncio
import base64
import json
import os
import shlex
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from ipam.pools import add_pool
from lastmile.client.orders import Lastmile, OrderRun
from lastmile.client.schedules.manager import ScheduleManager
from lastmile.client.schedules.plans import SCHEDULES
from lastmile.contract.lines import Line
from lastmile.db import Database
from lastmile.db.migrate import upgrade
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.devstack.temporal import DevTemporal
from lastmile.devstack.temporal_program import find_temporal
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.subscribers.tenants import add_tenant
from lastmile.worker import build_worker
from tests.conftest import POOLS
from tests.support.faults import Faults
from tests.support.orders import Orders, parked

IMAGES = Path(__file__).with_name("images")
HEIGHTS = {
    "runs": 620,
    "attention": 560,
    "completed": 1480,
    "parked": 1180,
    "rolled-back": 1130,
    "scheduled": 1040,
    "schedules": 1180,
}
QUERY = 'LastmileTenant = "acme" AND LastmileAttention = true'

# The page of an open run never stops loading, so no event says that it is complete.
SETTLED_SECONDS = 6

# The page alone, without background work of the browser.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


async def _locked() -> None:
    raise ApplicationError("pool home is locked: its NetBox prefix is being migrated", type="Busy", non_retryable=True)


async def _no_price() -> None:
    raise ApplicationError("price P-500 is not known to billing", type="UnknownPrice", non_retryable=True)


async def _runs(lastmile: Lastmile, faults: Faults) -> dict[str, OrderRun]:
    """One run of each kind, and an order for a later date."""
    completed = await lastmile.start(Orders("S-1001").provision("O-1001"))
    await completed.result()
    faults.before["O-1002", "create_billing_service"] = _no_price
    rolled_back = await lastmile.start(Orders("S-1002").provision("O-1002", line=_line(2)))
    await rolled_back.result()
    faults.before["O-1003", "create_billing_service"] = _no_price
    faults.before["O-1003", "release_ip_address"] = _locked
    waiting = await lastmile.start(Orders("S-1003").provision("O-1003", line=_line(3)))
    await parked(waiting)
    month_end = (datetime.now(UTC) + timedelta(days=30)).replace(hour=6, minute=0, second=0, microsecond=0)
    await lastmile.scheduled.hold(Orders("S-1001").deprovision("O-1004", not_before=month_end))
    return {"completed": completed, "rolled-back": rolled_back, "parked": waiting}


def _line(nth: int) -> Line:
    return Orders("S").provision(nth=nth).line


def _pages(ui: str, runs: dict[str, OrderRun]) -> dict[str, str]:
    base = f"{ui}/namespaces/default"
    pages = {
        "runs": f"{base}/workflows",
        "attention": f"{base}/workflows?query={quote(QUERY)}",
        "scheduled": f"{base}/schedules/{quote('order/acme/O-1004', safe='')}",
        "schedules": f"{base}/schedules",
    }
    for name, run in runs.items():
        id, run_id = run.handle.id, run.handle.run_id or run.handle.result_run_id
        # The history of a failed run shows paths of the machine on which it ran.
        tab = "history" if name == "completed" else "user-metadata"
        pages[name] = f"{base}/workflows/{quote(id, safe='')}/{run_id}/{tab}"
    return pages


async def _picture(url: str, name: str) -> None:
    """Take the picture of a page. Chromium is driven over a pipe (Chrome DevTools Protocol)."""
    commands, answers = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Chromium reads its commands from file descriptor 3 and answers on 4.
        size = f"--window-size=1240,{HEIGHTS[name]}"
        words = shlex.join(["chromium", *FLAGS, f"--user-data-dir={profile}", size, "--remote-debugging-pipe", url])
        chromium = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"exec 3<&{commands[0]} 4>&{answers[1]}; exec {words}"),
            pass_fds=(commands[0], answers[1]),
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(answers[1])
        reader = asyncio.StreamReader(limit=2**24)
        # Open file descriptors: nothing here waits for a disk.
        with os.fdopen(answers[0], "rb", buffering=0) as source, os.fdopen(commands[1], "wb", buffering=0) as sink:
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)

            async def ask(method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
                message = {"id": 1, "method": method, "params": parameters}
                sink.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
                while (answer := json.loads((await reader.readuntil(b"\0"))[:-1])).get("id") != 1:
                    pass
                return dict(answer["result"])

            async with asyncio.timeout(60):
                await asyncio.sleep(SETTLED_SECONDS)
                targets = (await ask("Target.getTargets"))["targetInfos"]
                page = next(target["targetId"] for target in targets if target["type"] == "page")
                session = (await ask("Target.attachToTarget", targetId=page, flatten=True))["sessionId"]
                shot = await ask("Page.captureScreenshot", session)
                (IMAGES / f"{name}.png").write_bytes(base64.b64decode(shot["data"]))
                await ask("Browser.close")
            await chromium.wait()
    print(name)


async def main() -> None:
    if not shutil.which("chromium"):
        raise SystemExit("Chromium is not installed (Debian: chromium).")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        async with (
            EmbeddedPostgres(directory, durable=False) as postgres,
            DevTemporal(directory, program=await find_temporal(print), database=None) as temporal,
            DynamicAuthorization(timeout=1, tries=1, in_flight=1) as authorization,
        ):
            await upgrade(postgres.url)
            database, faults = Database(postgres.url), Faults()
            async with database.platform() as platform:
                await add_tenant(platform, "acme", "Acme Broadband")
                await add_pool(platform, POOLS[0])
            client = await Client.connect(
                temporal.address, data_converter=pydantic_data_converter, interceptors=[faults], identity="worker-1"
            )
            async with build_worker(client, Settings(), database, authorization):
                manager = ScheduleManager(client, Settings().task_queue)
                for plan in SCHEDULES:
                    await manager.make(plan)
                for name, url in _pages(temporal.ui_url, await _runs(Lastmile(client), faults)).items():
                    await _picture(url, name)
            await database.close()


if __name__ == "__main__":
    asyncio.run(main())
