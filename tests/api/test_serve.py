"""The process of the API: it starts without Temporal, says what is wrong, shares its port, and ends in order."""

import asyncio
import json
import signal
import socket
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from lastmile.api.serve import listen
from lastmile.db import Database
from lastmile.settings import Settings
from tests.support.api_keys import make_api_key
from tests.support.orders import Orders
from tests.support.processes import Environment, environment_of, get, until


@pytest.fixture
async def environment(tmp_path: Path, owner_url: str, database: Database) -> Environment:
    """Return the environment of an API whose Temporal is away."""
    environment = await environment_of(tmp_path, owner_url, "127.0.0.1:1", task_queue="none")
    port = int(environment["LASTMILE_HTTP_PORT"])
    return environment | {"LASTMILE_API_PORT": str(port), "LASTMILE_API_METRICS_PORT": str(port + 1)}


@asynccontextmanager
async def api_process(environment: Mapping[str, str], *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `lastmile api`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "lastmile.cli", "api", *options),
        env=dict(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def answer(port: str, path: str) -> str:
    """Return the answer once the process serves the port."""
    return str(await until(lambda: asyncio.to_thread(get, int(port), path)))


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_api_without_temporal_serves_until_sigterm(environment: Environment, processes: str) -> None:
    async with api_process(environment, "--processes", processes) as process:
        assert await answer(environment["LASTMILE_API_PORT"], "/healthz") == '{"status":"ok"}'
        metrics = await answer(environment["LASTMILE_API_METRICS_PORT"], "/metrics")
        assert "lastmile_api_request_duration_seconds" in metrics
        process.send_signal(signal.SIGTERM)
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert f":{environment['LASTMILE_API_PORT']}. Ctrl-C ends it.".encode() in output


async def test_api_refuses_to_start_with_every_problem_in_one_list(environment: Environment, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    wrong = environment | {
        "DATABASE_URL": "postgresql://nobody:wrong@127.0.0.1:1/none",
        "TEMPORAL_PROFILE": "nope",
        "LASTMILE_API_JWKS_FILE": str(keys),
        "LASTMILE_API_AUDIENCE": "lastmile",
    }
    async with api_process(wrong) as process:
        _, errors = await process.communicate()
    assert process.returncode == 2
    said = errors.decode()
    assert "The API cannot start:" in said
    assert "DATABASE_URL: the database postgresql://nobody:***@127.0.0.1:1/none cannot be used" in said
    assert "TEMPORAL_PROFILE: there is no profile 'nope'" in said
    assert f"LASTMILE_API_JWKS_FILE: {keys} is not a JSON Web Key Set" in said
    assert "Traceback" not in said


PERSONAL = {"name": "Ada Planted", "email": "planted@example.net", "phone": "+31 20 555 0199"}
PASSWORD = "planted-password-17"


def bodies() -> Iterator[bytes]:
    """Yield orders with planted personal data and a planted password: a valid one, and each way to be invalid."""
    order = Orders("S-1").provision("O-1").model_dump(mode="json", exclude_defaults=True)
    order |= {"operation": "provision", "customer": {"ref": "C-1", **PERSONAL}, "password": PASSWORD}
    yield json.dumps(order).encode()
    for wrong in (
        [order],
        order | {"password": [PASSWORD]},
        order | {"password": f"{PASSWORD}\n"},
        order | {"passwords": PASSWORD},
        order | {"line": {"line": order}},
        order | {"order_id": {"password": PASSWORD}},
        order | {"operation": order},
        order | {"customer": order["customer"] | {"email": PERSONAL["email"] * 30, "phone": f"{PERSONAL['phone']} a"}},
    ):
        yield json.dumps(wrong).encode()
    yield json.dumps(order).encode()[:-1]
    yield json.dumps(order).encode() + b" " * (1 << 20)


async def test_secrets_and_personal_data_of_a_request_appear_in_no_log(
    environment: Environment, database: Database
) -> None:
    """Planted: tokens, a password and personal data, each where it belongs and where a caller may put it by mistake."""
    key, token = f"lm_{'a1' * 6}_{'b2' * 32}", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmVk"
    valid = (await make_api_key(database)).text
    answers: list[httpx.Response] = []
    settings = {"LASTMILE_LOG_LEVEL": "DEBUG", "LASTMILE_ENCRYPTION_KEYS": f"k:{b64encode(bytes(32)).decode()}"}
    async with api_process(environment | settings) as process:
        port = environment["LASTMILE_API_PORT"]
        await answer(port, "/healthz")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for planted in (key, token):
                for headers in ({"Authorization": f"Bearer {planted}"}, {"Authorization": planted}, {"X-Key": planted}):
                    for path in ("/planted", f"/{planted}", f"/healthz?access_token={planted}"):
                        answers.append(await client.get(path, headers=headers))
            client.headers["Authorization"] = f"Bearer {valid}"
            for body in bodies():
                for headers in ({"Content-Type": "application/json"}, {"Content-Type": "text/plain"}):
                    answers.append(await client.post("/v1/orders", content=body, headers=headers))
                answers.append(await client.post("/v1/orders", content=body, headers={"Authorization": "none"}))
            for secret in (*PERSONAL.values(), valid):
                answers.append(await client.get("/v1/subscribers", params={"q": secret}))
                answers.append(await client.get(f"/v1/orders/{secret}", params={"tenant": secret}))
        process.terminate()
        output, errors = await process.communicate()
    assert [sent.status_code for sent in answers].count(202) == 1
    assert b"api.request" in errors
    secrets = [key, token, key.rpartition("_")[2], token.rpartition(".")[2], valid, valid.rpartition("_")[2], PASSWORD]
    for secret in secrets:
        assert not [sent.text for sent in answers if secret[:30] in sent.text]
    for secret in [*secrets, *PERSONAL.values()]:
        assert secret.encode() not in output + errors


async def test_api_on_a_used_port_says_which_setting_to_change(environment: Environment) -> None:
    async with api_process(environment):
        await answer(environment["LASTMILE_API_PORT"], "/healthz")
        async with api_process(environment) as second:
            _, errors = await second.communicate()
    assert second.returncode == 3
    assert "LASTMILE_API_PORT: 127.0.0.1:" in errors.decode()


def test_connection_of_the_api_sends_each_packet_at_once() -> None:
    with listen(Settings(api_port=0)) as listener, socket.create_connection(listener.getsockname()[:2]):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
