"""A Prometheus that has seen an ISP's day."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from lastmile.devstack.ports import Ports
from lastmile.devstack.prometheus import Prometheus
from lastmile.devstack.stack import Stack
from lastmile.settings import Settings
from tests.conftest import copy_of
from tests.support.state import state_directory
from tests.system.grafana.isp import Isp


@pytest.fixture(scope="module")
def environment() -> Iterator[Path]:
    """Nothing in it that would replace a server of the stack, and NASes that are not waited for; a directory for it."""
    with state_directory() as directory, pytest.MonkeyPatch.context() as patch:
        for name in [
            name for name in os.environ if name.startswith(("TEMPORAL_", "DATABASE_", "LASTMILE_", "NETBOX_"))
        ]:
            patch.delenv(name)
        patch.setenv("TEMPORAL_CONFIG_FILE", str(directory / "temporal.toml"))
        (directory / "temporal.toml").touch()
        patch.setenv("LASTMILE_RADIUS_TIMEOUT_SECONDS", "5")
        patch.setenv("LASTMILE_RADIUS_TRIES", "1")
        yield directory


@pytest.fixture(scope="module")
async def isp(environment: Path, migrated: str) -> AsyncIterator[Isp]:
    """Once its day is over."""
    async with copy_of(migrated) as url:
        owner = await asyncpg.connect(url)
        async with Stack(environment, Settings(DATABASE_URL=url)) as stack:
            port = stack.environment["LASTMILE_HTTP_PORT"]
            targets = [f"127.0.0.1:{port}", f"localhost:{port}"]
            api = [f"127.0.0.1:{stack.environment['LASTMILE_API_METRICS_PORT']}"]
            directory = environment / "watching"
            directory.mkdir()
            async with Prometheus(
                directory, targets=targets, api=api, port=Ports(directory).claim("Prometheus"), interval=2
            ) as prometheus:
                isp = Isp(stack, prometheus, owner)
                await isp.live()
                yield isp
        await owner.close()
