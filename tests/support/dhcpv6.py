"""A real Kea and a subscriber's host with a real `dhcp6c`, each in a network namespace, with a link between them."""

import asyncio
import copy
import ipaddress
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url

from lastmile.devstack.server import ServerProcess

__all__ = ["LEASES", "Dhcp6Host", "network_namespaces", "running_kea"]

LEASES = "kea_leases"
"""The schema of Kea's own tables."""

_CONFIGURATION = Path("docs/operations/controllers/kea-dhcp6.json")
_TIMERS = {"renew-timer": 1, "rebind-timer": 2, "preferred-lifetime": 600, "valid-lifetime": 900}
"""Kea's timers in seconds: the host renews every second, and would use a prefix without a renewal for long."""

_ISP, _WAN, _LAN = "isp0", "wan0", "lan0"


async def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run the command, and return its standard output."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} failed: {errors.decode()}{output.decode()}")
    return output.decode()


@asynccontextmanager
async def network_namespaces() -> AsyncIterator[tuple[str, str]]:
    """Make the namespace of Kea and that of the host. The host has a LAN behind it."""
    if os.geteuid() != 0:
        raise AssertionError("This test makes network namespaces, and so must run as root: use `sudo`.")
    isp, host = (f"lastmile-{os.getpid()}-{name}" for name in ("isp", "host"))
    try:
        for name in (isp, host):
            await run("ip", "netns", "add", name)
            await run("ip", "-n", name, "link", "set", "lo", "up")
            # Otherwise an interface gets its link-local address only after duplicate address detection.
            for kind in ("all", "default"):
                await run("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{kind}.accept_dad=0")
        await run("ip", "-n", isp, "link", "add", _ISP, "type", "veth", "peer", "name", _WAN, "netns", host)
        await run("ip", "-n", host, "link", "add", _LAN, "type", "veth", "peer", "name", "lan1")
        for name, interface in ((isp, _ISP), (host, _WAN), (host, _LAN), (host, "lan1")):
            await run("ip", "-n", name, "link", "set", interface, "up")
        yield isp, host
    finally:
        for name in (isp, host):
            if Path("/run/netns", name).exists():
                await run("ip", "netns", "delete", name)


@asynccontextmanager
async def running_kea(namespace: str, directory: Path, owner_url: str, tenant: str) -> AsyncIterator[ServerProcess]:
    """Set the database up as docs/operations/controllers/kea.md says, and run Kea on it."""
    async with _socket_of_postgres(directory, owner_url):
        await _set_up(directory, owner_url, tenant)
        process = await _start(namespace, directory, owner_url)
        try:
            yield process
        finally:
            await process.stop()


async def _set_up(directory: Path, owner_url: str, tenant: str) -> None:
    url = make_url(owner_url)
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute(f"CREATE SCHEMA {LEASES}")
        place = ("-h", str(directory), "-u", str(url.username), "-n", str(url.database))
        environment = os.environ | {"PGOPTIONS": f"-c search_path={LEASES}", "PGPASSWORD": str(url.password)}
        await run("kea-admin", "db-init", "pgsql", *place, env=environment)
        if not await owner.fetchval("SELECT 1 FROM pg_roles WHERE rolname = 'kea'"):
            await owner.execute("CREATE ROLE kea LOGIN PASSWORD 'chosen-by-the-test' IN ROLE lastmile_kea")
        await owner.execute(
            f"""
            ALTER ROLE kea IN DATABASE {url.database} SET search_path = kea, {LEASES};
            ALTER ROLE kea IN DATABASE {url.database} SET lastmile.tenant = '{tenant}';
            GRANT USAGE ON SCHEMA {LEASES} TO kea;
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {LEASES} TO kea;
            SELECT kea.attach('{LEASES}');
            """
        )
    finally:
        await owner.close()


async def _start(namespace: str, directory: Path, owner_url: str) -> ServerProcess:
    # AppArmor confines the installed program, by its path, to the directories of the system's own Kea.
    program = shutil.copy2("/usr/sbin/kea-dhcp6", directory)
    configuration = directory / "kea-dhcp6.json"
    configuration.write_text(json.dumps(_configured(directory, owner_url)))
    process = await ServerProcess.start(
        "Kea",
        ["ip", "netns", "exec", namespace, program, "-c", configuration],
        log=directory / "kea.log",
        env=os.environ | {"KEA_PIDFILE_DIR": str(directory), "KEA_LOCKFILE_DIR": str(directory)},
    )

    async def is_ready() -> bool:
        return "DHCP6_STARTED" in process.output()

    await process.ready(is_ready, within=30)
    return process


def _configured(directory: Path, owner_url: str) -> dict[str, Any]:
    """Return the configuration of the documentation for this test's database, link and timers."""
    configuration: dict[str, Any] = copy.deepcopy(json.loads(_CONFIGURATION.read_text(encoding="utf-8")))
    server = configuration["Dhcp6"]
    server["interfaces-config"]["interfaces"] = [_ISP]
    server["subnet6"][0]["interface"] = _ISP
    server["data-directory"] = str(directory)
    place = {"host": str(directory), "name": make_url(owner_url).database, "password": "chosen-by-the-test"}
    for database in ("lease-database", "hosts-database"):
        server[database] |= place
    return {"Dhcp6": server | _TIMERS}


@asynccontextmanager
async def _socket_of_postgres(directory: Path, url: str) -> AsyncIterator[None]:
    """Let programs in other network namespaces reach PostgreSQL by a Unix socket."""
    place = make_url(url)

    async def copy_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(place.host, place.port)
        await asyncio.gather(copy_bytes(reader, back), copy_bytes(there, writer), return_exceptions=True)

    server = await asyncio.start_unix_server(forward, directory / ".s.PGSQL.5432")
    try:
        yield
    finally:
        server.close()


class Dhcp6Host:
    """A subscriber's host that asks for a prefix with `dhcp6c`, and numbers its LAN from it."""

    def __init__(self, namespace: str, directory: Path, process: ServerProcess) -> None:
        self._namespace = namespace
        self._directory = directory
        self._process = process

    @classmethod
    @asynccontextmanager
    async def running(cls, namespace: str, directory: Path, duid: bytes) -> "AsyncIterator[Dhcp6Host]":
        """Run `dhcp6c` with this DUID."""
        state = directory / "dhcpv6"
        state.mkdir()
        (state / "dhcp6c_duid").write_bytes(len(duid).to_bytes(2, "little") + duid)
        configuration = directory / "dhcp6c.conf"
        configuration.write_text(
            f"interface {_WAN} {{ send ia-pd 0; }};\n"
            f"id-assoc pd 0 {{ prefix-interface {_LAN} {{ sla-id 1; sla-len 8; ifid 1; }}; }};\n"
        )
        # dhcp6c has the path of its DUID built in; the mount is visible to this process alone.
        command = f"mount --bind {state} /var/lib/dhcpv6 && exec dhcp6c -f -D -c {configuration} "
        command += f"-p {directory / 'dhcp6c.pid'} {_WAN}"
        process = await ServerProcess.start(
            "dhcp6c", ["ip", "netns", "exec", namespace, "sh", "-c", command], log=directory / "dhcp6c.log"
        )
        try:
            yield cls(namespace, directory, process)
        finally:
            await process.stop()

    async def lan_addresses(self) -> set[str]:
        """Return the global addresses of the LAN."""
        shown = await run("ip", "-n", self._namespace, "-j", "-6", "address", "show", "dev", _LAN, "scope", "global")
        # Interfaces and addresses that the filter excludes are empty objects.
        found = [info for interface in json.loads(shown) for info in interface.get("addr_info", ())]
        return {info["local"] for info in found if info}

    def delegated(self) -> list[str]:
        """Return the prefix of each reply that delegated one, in order."""
        return re.findall(r"(?:create|update) a prefix (\S+)", self._process.output())

    async def numbered_from(self, prefix: str) -> None:
        """Wait until the LAN has an address of this prefix, and no other."""
        expected = str(ipaddress.ip_network(prefix)[(1 << 64) + 1])
        await self._until(lambda addresses: addresses == {expected})

    async def without_prefix(self) -> None:
        """Wait until the LAN has no global address."""
        await self._until(lambda addresses: not addresses)

    async def refused(self) -> None:
        """Wait until Kea has answered a request with NoPrefixAvail (RFC 8415, 21.13)."""
        while True:
            if "update_ia: status code for PD-0: no prefixes" in self._process.output():
                return
            await asyncio.sleep(0.1)  # a line of a log cannot be waited for

    async def _until(self, met: Callable[[set[str]], bool]) -> None:
        while True:
            if met(await self.lan_addresses()):
                return
            await asyncio.sleep(0.1)  # an address cannot be waited for
