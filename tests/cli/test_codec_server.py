"""`lastmile codec-server` as a process, asked by the `temporal` command; and commands that lack the key."""

import asyncio
import base64
import re
from pathlib import Path

import pytest
from temporalio.client import Client

from lastmile.db import Database
from lastmile.encryption.codec import data_converter
from lastmile.encryption.keys import KeyRing
from lastmile.radius.dynauth import DynamicAuthorization
from lastmile.settings import Settings
from lastmile.worker import build_worker
from tests.support.commands import Book, Cli, interrupted, lines

KEY = base64.b64encode(bytes(32)).decode()
USER = "anna:sixteen letters."
SERVER = {"LASTMILE_ENCRYPTION_KEYS": f"k1:{KEY}", "LASTMILE_CODEC_USERS": USER, "LASTMILE_CODEC_PORT": "0"}


@pytest.fixture
async def encrypting(temporal_client: Client, settings: Settings, database: Database) -> object:
    """A worker that has the key."""
    keys = KeyRing({"k1": bytes(32)})
    client = Client(temporal_client.service_client, data_converter=data_converter(keys))
    async with (
        DynamicAuthorization(timeout=2, tries=1, in_flight=8) as authorization,
        build_worker(client, settings, database, authorization),
    ):
        yield


async def test_codec_server_decrypts_orders_for_authorized_users_only(
    cli: Cli, encrypting: None, book: Book, temporal_program: Path, temporal_address: str
) -> None:
    ran = await cli.but(**SERVER)("provision", "-", "--json", stdin=lines(book.order()))
    assert (ran.code, ran.json[0]["status"]) == (0, "completed"), ran.err

    server = await cli.but(**SERVER).start("codec-server")
    assert server.stdout is not None
    said = (await server.stdout.readline()).decode()
    assert (await server.stdout.readline()).decode().startswith("For the `temporal` command alone")
    url = re.search(r"http://\S+\d", said)
    assert url is not None

    async def show(*options: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(temporal_program, "workflow", "show", "--workflow-id", f"subscriber/acme/{book.ref()}"),
            *("--output", "json", "--address", temporal_address, *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out = (await process.communicate())[0].decode()
        # Payloads are shown as base64, encrypted or not.
        return out + "".join(str(base64.b64decode(data)) for data in re.findall(r'"data": "([^"]+)"', out))

    login = "Basic " + base64.b64encode(USER.encode()).decode()
    shown = await show("--codec-endpoint", url[0], "--codec-auth", login)
    assert book.order()["customer"]["name"] in shown
    assert book.order()["customer"]["name"] not in await show()

    ended = await interrupted(server)
    assert (ended.code, "codec.answered" in ended.err, "Ada" in ended.err) == (0, True, False)


async def test_command_without_the_key_names_the_missing_key(cli: Cli, encrypting: None, book: Book) -> None:
    ran = await cli("provision", "-", stdin=lines(book.order()))
    assert ran.code == 2
    assert "encrypted with key 'k1', and this process has no keys. Set LASTMILE_ENCRYPTION_KEYS." in ran.err


async def test_codec_server_without_settings_names_what_it_needs(alone: Cli) -> None:
    ran = await alone("codec-server")
    assert (ran.code, ran.err.split()[-2:]) == (2, ["LASTMILE_ENCRYPTION_KEYS", "LASTMILE_CODEC_USERS"])
    for name, bad, words in (
        ("LASTMILE_ENCRYPTION_KEYS", "secretword", "entry 1 is not `name:key`"),
        ("LASTMILE_CODEC_USERS", "anna:secretword", "entry 1 is not `name:password`"),
        ("LASTMILE_CODEC_ORIGIN", "temporal.example.net/secretword", "must be the origin of a page"),
    ):
        ran = await alone.but(**SERVER | {name: bad})("codec-server")
        assert ran.code == 2
        assert f"{name}: " in ran.err
        assert words in ran.err
        assert "secretword" not in ran.err


async def test_codec_server_on_a_port_in_use_is_unavailable(alone: Cli) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        ran = await alone.but(**SERVER | {"LASTMILE_CODEC_PORT": str(port)})("codec-server")
    assert (ran.code, f"127.0.0.1:{port} cannot be used" in ran.err) == (3, True)
