"""The real servers of the tests, one of each for the session, and the rule for programs that are not installed."""

import asyncio
import gc
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import Phase, settings
from sqlalchemy import make_url
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from ipam.pools import Pool, add_pool
from lastmile.client.schedules.retry import ScheduleRetryInterceptor
from lastmile.contract.addressing import Purpose
from lastmile.db import Database
from lastmile.db.migrate import upgrade
from lastmile.devstack.postgres import EmbeddedPostgres
from lastmile.devstack.temporal import DevTemporal
from lastmile.devstack.temporal_program import TemporalMissingError, find_temporal
from lastmile.subscribers.tenants import add_tenant
from tests.support.line_controller import DRIVERS
from tests.support.state import remove_abandoned, state_directory

POSTGRES = "LASTMILE_TESTS_POSTGRES"
TEMPORAL = "LASTMILE_TESTS_TEMPORAL"
"""Servers of the session that has started this one (tests/system/test_mutants.py); otherwise a session runs its own."""

# Otherwise the SDK fails a workflow task after two seconds, and repeats its local activities: a slow machine would look
# like a deadlock. Workers in their own processes keep the limit (tests/support/processes.py).
os.environ["TEMPORAL_DEBUG"] = "true"

# pytest changes os.environ at the end of a test, and `requests` fails in a thread that reads it just then to look for
# a proxy. With this it does not look for one on the way to this machine.
NO_PROXY = ",".join(filter(None, ("127.0.0.1", "localhost", os.environ.get("no_proxy") or os.environ.get("NO_PROXY"))))
os.environ["NO_PROXY"] = os.environ["no_proxy"] = NO_PROXY

POOLS = (
    Pool(name="home", prefix="2001:db8::/40", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="acme"),
    Pool(name="business", prefix="2001:db8:100::/40", purpose=Purpose.IPV6_PD, delegated_length=48, tenant="acme"),
    Pool(name="tiny", prefix="2001:db8:200::/55", purpose=Purpose.IPV6_PD, delegated_length=56, tenant="other"),
    Pool(name="static", prefix="198.51.100.0/30", purpose=Purpose.IPV4, delegated_length=32, tenant="acme"),
)


# This profile only shows whether a failure exists, and does not shrink it.
settings.register_profile(
    "any-failure", phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False, deadline=None
)
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


NEEDED = {
    "freeradius_required": (
        lambda: (shutil.which("freeradius") or shutil.which("radiusd")) and shutil.which("radclient"),
        "FreeRADIUS is not installed (Debian: freeradius, freeradius-utils, freeradius-postgresql)",
    ),
    "prometheus_required": (
        lambda: shutil.which("prometheus") and shutil.which("promtool"),
        "Prometheus is not installed (Debian: prometheus)",
    ),
    "kea_required": (
        lambda: all(map(shutil.which, ("kea-dhcp6", "kea-admin", "dhcp6c", "ip"))),
        "Kea or dhcp6c is not installed (Debian: kea-dhcp6-server, kea-admin, wide-dhcpv6-client, iproute2)",
    ),
    "curl_required": (lambda: shutil.which("curl"), "curl is not installed (Debian: curl)"),
}
"""By marker: whether the required program is installed, and the message where it is not."""


def pytest_configure(config: pytest.Config) -> None:
    # A background process ignores SIGINT, and its children inherit that. A handler is not inherited: children get the
    # default, and this process continues to ignore the signal.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    for marker in NEEDED:
        config.addinivalue_line("markers", f"{marker}: skipped where it is not installed, except in CI.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute tests singly with `--dist loadgroup`, but for those that share an expensive fixture."""
    if config.getoption("dist") != "loadgroup":
        return None
    from tests.support.distribution import GroupScheduling

    return GroupScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        from tests.support.distribution import put_long_ones_first

        put_long_ones_first(items)


def pytest_collection_finish() -> None:
    """Take the modules and the tests from the garbage collector, which would go through all of them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Download what takes minutes before the worker processes start, which have no terminal to show the progress."""
    config = session.config
    if not hasattr(config, "workerinput"):
        remove_abandoned()
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        try:
            asyncio.run(find_temporal(config.get_terminal_writer().line))
        except TemporalMissingError as missing:
            raise pytest.UsageError(str(missing)) from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (installed, missing) in NEEDED.items():
        if item.get_closest_marker(marker) is None or installed():
            continue
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Return the directory of the session's servers; other logins, such as PostgreSQL's, may enter it."""
    with state_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
async def postgres_url(server_directory: Path) -> AsyncIterator[str]:
    """Run PostgreSQL; return the superuser's URL of an empty database."""
    if url := os.environ.get(POSTGRES):
        yield url
        return
    async with EmbeddedPostgres(server_directory, durable=False) as postgres:
        yield postgres.url


@pytest.fixture(scope="session")
async def temporal_program(pytestconfig: pytest.Config) -> Path:
    """Return the `temporal` command; download or build it the first time, and show that in the terminal."""
    return await find_temporal(pytestconfig.get_terminal_writer().line)


@pytest.fixture(scope="session")
async def temporal_address(server_directory: Path, temporal_program: Path) -> AsyncIterator[str]:
    """Run Temporal's dev server in memory; return its address."""
    if address := os.environ.get(TEMPORAL):
        yield address
        return
    async with DevTemporal(server_directory, program=temporal_program, database=None) as temporal:
        yield temporal.address


@pytest.fixture(scope="session")
async def temporal_client(temporal_address: str) -> Client:
    """Return a Temporal client with Lastmile's data converter."""
    return await Client.connect(
        temporal_address, data_converter=pydantic_data_converter, interceptors=[ScheduleRetryInterceptor()]
    )


@pytest.fixture(scope="session")
async def migrated(postgres_url: str) -> str:
    """Return the owner's URL of a database at the newest migration, which serves as a template."""
    await upgrade(postgres_url)
    return postgres_url


@asynccontextmanager
async def copy_of(template_url: str) -> AsyncIterator[str]:
    """Create a copy of the template for the block; yield the owner's URL."""
    admin = await _connect_admin(template_url)
    try:
        async with _copied(template_url, admin) as url:
            yield url
    finally:
        await admin.close()


async def _connect_admin(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(make_url(url).set(database="postgres").render_as_string(hide_password=False))


@asynccontextmanager
async def _copied(template_url: str, admin: asyncpg.Connection) -> AsyncIterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    template = make_url(template_url)
    await admin.execute(f'CREATE DATABASE {name} TEMPLATE "{template.database}" STRATEGY FILE_COPY')
    try:
        yield template.set(database=name).render_as_string(hide_password=False)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def admin(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Return a connection that creates and drops databases: a new one costs 10 ms of processor time."""
    admin = await _connect_admin(postgres_url)
    try:
        yield admin
    finally:
        await admin.close()


@pytest.fixture(scope="session")
async def stocked(migrated: str) -> AsyncIterator[str]:
    """Return the owner's URL of a copy that has tenants and pools, to make further copies of."""
    async with copy_of(migrated) as url:
        database = Database(url)
        async with database.platform() as platform:
            await add_tenant(platform, "acme", "Acme Broadband")
            await add_tenant(platform, "other", "Other Networks")
            for pool in POOLS:
                await add_pool(platform, pool)
        await database.close()  # nothing may be connected to a template
        yield url


@pytest.fixture
def template_url(request: pytest.FixtureRequest, migrated: str, stocked: str) -> str:
    """Return the owner's URL of the database that the test gets a copy of: an empty one, unless it uses `database`."""
    return stocked if "database" in request.fixturenames else migrated


@pytest.fixture
async def owner_url(template_url: str, admin: asyncpg.Connection) -> AsyncIterator[str]:
    """Return the owner's URL of the test's own database: row-level security does not bind the owner."""
    async with _copied(template_url, admin) as url:
        yield url


@pytest.fixture
async def owner(owner_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Return a connection of the owner, which sees every row."""
    connection = await asyncpg.connect(owner_url)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def database(owner_url: str) -> AsyncIterator[Database]:
    """Return the application's database, with tenant `acme` and its pools: /56s, /48s, two IPv4 addresses."""
    database = Database(owner_url)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
def line_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the package of `tests/support/drivers`: its drivers are behind entry points, as an ISP's own are."""
    monkeypatch.syspath_prepend(DRIVERS)
