"""A FreeRADIUS on the tables of a test's database, and requests to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from lastmile.devstack.freeradius import FreeRadius
from lastmile.devstack.logins import make_login
from lastmile.devstack.ports import HOST, Ports

SECRET = "between-us"


@dataclass(frozen=True)
class Radius:
    """The running server, and the owner's connection to its database."""

    server: FreeRadius
    database: asyncpg.Connection
    directory: Path
    url: str

    async def send(self, kind: str, **attributes: str) -> str:
        """Return the output of `radclient` for a request of this kind (`auth`, `acct`)."""
        port = {"auth": self.server.auth_port, "acct": self.server.acct_port}[kind]
        client = await asyncio.create_subprocess_exec(
            *("radclient", "-x", f"{HOST}:{port}", kind, SECRET),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        request = ",".join(f"{name.replace('_', '-')} = {value}" for name, value in attributes.items())
        output, _ = await client.communicate(request.encode())
        return output.decode().partition("Received ")[2]


@asynccontextmanager
async def running_radius(url: str, database: asyncpg.Connection, directory: Path) -> AsyncIterator[Radius]:
    """Run FreeRADIUS for the block on the database with the owner's URL `url`; `database` is a connection to it."""
    login = await make_login(url, "radius", "chosen-by-the-test", "lastmile_radius")
    ports = Ports(directory)
    server = FreeRadius(
        directory,
        database_url=login,
        secret=SECRET,
        auth_port=ports.claim("authentication"),
        acct_port=ports.claim("accounting"),
    )
    async with server:
        yield Radius(server, database, directory, url)
