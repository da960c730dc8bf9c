"""Lastmile as a wheel in an environment without extras, in a folder outside of the repository."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lastmile.db import Database
from lastmile.db.migrate import downgrade, pending
from tests.support.orders import Orders
from tests.support.processes import Environment, environment_of, healthy, port_of
from tests.support.readme import ROOT, client_program
from tests.system.packaging.environments import Installed, install

pytestmark = [
    pytest.mark.timeout(900),  # an installation takes long on a busy machine
]

# What imports a package of an extra, or of the tools for development. No production command may.
NEED_MORE = (
    "bench",
    "lastmile.devstack",
    "lastmile.devices.voltha",
    "grafana",
    "lastmile.telemetry.tracing",
    "lastmile.cli.demo.access_network",
    "lastmile.cli.demo.demonstration",
    "lastmile.cli.demo.dashboard",
    "lastmile.cli.demo.nas",
    "lastmile.cli.demo.scenario",
)

IMPORT_ALL = """
import importlib, importlib.metadata, sys

need_more = tuple(sys.argv[1:])
for file in importlib.metadata.files("lastmile"):
    name = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    if file.suffix != ".py" or "migrations" in file.parts or file.stem == "__main__":
        continue
    if name not in need_more and not name.startswith(tuple(f"{more}." for more in need_more)):
        importlib.import_module(name)
        print(name)
"""

TYPED_PROGRAM = """
from lastmile.client import (
    AlreadyRunningError, ClientError, Customer, Decision, DeprovisionSubscriber, Lastmile, Line, OrderResult,
    ProvisionSubscriber, ResultStatus, ServicePlan,
)


async def move_in(lastmile: Lastmile, customer: Customer, plan: ServicePlan, line: Line) -> str | None:
    order = ProvisionSubscriber(
        tenant="acme", order_id="O-1", subscriber_ref="S-1", customer=customer, plan=plan, line=line
    )
    try:
        run = await lastmile.start(order)
    except AlreadyRunningError as failure:
        print(failure)
        return None
    result: OrderResult = await run.result()
    return result.created.ipv6_prefix if result.status is ResultStatus.COMPLETED else None


async def move_out(reason: str) -> None:
    async with Lastmile.connect() as lastmile:
        order = DeprovisionSubscriber(tenant="acme", order_id="O-2", subscriber_ref="S-1", reason=reason)
        try:
            reveal_type((await lastmile.execute(order)).warnings)
            await lastmile.cancel("acme", "S-1")
        except ClientError:
            raise
"""

READ_FILES = """
import json
from lastmile.cli.demo.orders import EXAMPLES
from lastmile.devstack.prometheus import ALERTS

files = [*EXAMPLES.iterdir(), *ALERTS.iterdir()]
print(json.dumps({file.name: file.read_text() for file in files if file.is_file()}))
"""


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    """The wheel and what it requires, in the lock's versions; no extra."""
    return install(tmp_path_factory.mktemp("production"), wheel, "lastmile")


@pytest.fixture
def orders(request: pytest.FixtureRequest, tmp_path: Path) -> Orders:
    return Orders(f"S-{os.getpid()}-{abs(hash(tmp_path)) % 10**8}")


@pytest.fixture
async def environment(
    tmp_path: Path, owner_url: str, database: Database, temporal_address: str, orders: Orders
) -> Environment:
    return await environment_of(tmp_path, owner_url, temporal_address, task_queue=orders.ref)


@pytest.fixture
async def worker(production: Installed, environment: Environment) -> AsyncIterator[None]:
    """A worker of this installation."""
    process = await asyncio.create_subprocess_exec(
        *(production.bin / "python", "-m", "lastmile.worker"), cwd=production.folder, env=environment
    )
    try:
        await healthy(port_of(environment))
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def test_wheel_without_extras_imports_every_production_module(production: Installed) -> None:
    imported = production.run("python", "-c", IMPORT_ALL, *NEED_MORE).stdout.split()
    assert {
        "worker",
        "lastmile.startup_checks",
        "lastmile.cli.netbox.netbox_app",
        "lastmile.cli.orders.provisioning",
        "ipam.netbox.client",
    } <= set(imported)


def test_wheel_holds_the_examples_and_alert_rules_of_the_repository(production: Installed) -> None:
    installed = json.loads(production.run("python", "-c", READ_FILES).stdout)
    files = [file for folder in ("lastmile/examples", "alerts") for file in (ROOT / folder).iterdir() if file.is_file()]
    assert installed == {file.name: file.read_text() for file in files}


async def test_wheel_migrates_an_empty_database(production: Installed, owner_url: str) -> None:
    await downgrade(owner_url)
    environment = {**os.environ, "DATABASE_URL": owner_url}
    ran = await asyncio.to_thread(production.run, "lastmile", "migrate", environment=environment)
    assert ran.stdout == "Migrated: 0001_initial.\n"
    assert await pending(owner_url) == []


def test_wheel_marks_its_packages_as_typed(production: Installed) -> None:
    listed = "import importlib.metadata as m; print(*m.files('lastmile'))"
    files = set(production.run("python", "-c", listed).stdout.split())
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "bench"}
    assert {f"{package}/py.typed" for package in packages} <= files


async def test_program_that_imports_the_client_type_checks_strictly(production: Installed, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPED_PROGRAM)
    mypy = ("-m", "mypy", "--strict", "--python-executable", str(production.bin / "python"), "--cache-dir", os.devnull)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *mypy, str(program), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert 'Revealed type is "list[str]"' in out.decode().replace("builtins.", "")


def test_provision_without_extras_checks_the_installed_examples(production: Installed) -> None:
    where = "from lastmile.cli.demo.orders import EXAMPLES; print(EXAMPLES)"
    examples = production.run("python", "-c", where).stdout.strip()
    assert "site-packages" in examples
    production.run("lastmile", "provision", f"{examples}/orders.jsonl", "--check")


def test_commands_of_the_stack_without_its_extra_name_the_extra(production: Installed) -> None:
    for command in ("demo", "up"):
        ran = production.run("lastmile", command, code=3)
        assert "pip install 'lastmile[stack]'" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_command_without_extras_explains_its_failure(production: Installed) -> None:
    ran = production.run("lastmile", "status", "S-1", code=3)
    assert ran.stderr.startswith("No database is configured: DATABASE_URL is not set")


async def test_commands_without_extras_run_an_order_and_take_it_down(
    production: Installed, worker: None, environment: Environment, orders: Orders
) -> None:
    async def lastmile(*arguments: str) -> str:
        ran = await asyncio.to_thread(production.run, "lastmile", *arguments, environment=environment)
        return ran.stdout

    order = orders.provision()
    file = production.folder / "order.jsonl"
    file.write_text(order.model_dump_json(exclude_none=True))
    assert json.loads(await lastmile("provision", str(file), "--json"))["status"] == "completed"
    assert order.customer.name in await lastmile("export")
    for command in ("status", "history"):
        assert orders.ref in await lastmile(command, orders.ref, "--tenant", "acme")
    await lastmile("audit", "--tenant", "acme")
    await lastmile("schedule", "list")
    await lastmile("deprovision", orders.ref, "--tenant", "acme", "--reason", "moved away")


async def test_readme_client_in_a_program_with_own_errors_and_settings_modules_completes_an_order(
    production: Installed, worker: None, environment: Environment, orders: Orders, tmp_path: Path
) -> None:
    program = client_program().replace("connect()", f"connect(task_queue={orders.ref!r})")
    (tmp_path / "program.py").write_text(f"import errors, settings\n{program}\nasyncio.run(main())\n")
    for name in ("errors", "settings"):
        (tmp_path / f"{name}.py").write_text(f"MINE = 'the {name} of another program'\n")
    ran = await asyncio.to_thread(
        production.run,
        *("python", str(tmp_path / "program.py")),
        environment=environment | {"ORDER": orders.provision().model_dump_json()},
    )
    assert ran.stdout.startswith("completed 2001:db8:")
