"""The connection: other servers, TLS, the environment, concurrency, logs and metrics."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from ipam.netbox import NetBox
from ipam.netbox.errors import (
    AmbiguousWriteError,
    NetBoxAuthorizationError,
    NetBoxServerError,
    NetBoxUnreachableError,
    NotNetBoxError,
)
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import (
    LOST,
    POSTGRES_DOWN,
    Fault,
    proxy,
)
from lastmile.errors import NonRetryableError
from tests.support.metrics import Counted
from tests.support.netbox_calls import HTML, JSON, NOBODY, POOL, STAMP, failing, prefixes_below
from tests.support.other_servers import answering, certificate, tls


@pytest.mark.parametrize(
    ("head", "body", "words"),
    [
        (f"200 OK\r\n{HTML}", "<html>Log in</html>", "is not NetBox's API (200, text/html)"),
        (f"404 Not Found\r\n{HTML}", "<html></html>", "is not NetBox's API (404, text/html)"),
        (f"403 Forbidden\r\n{HTML}", "<html></html>", "is NETBOX_TOKEN right"),
        ("301 Moved\r\nLocation: https://netbox.example.net/", "", "redirects to https://netbox.example.net/"),
        (f"200 OK\r\n{JSON}", '{"results": [{"id": 1}], "count": 1}', "cannot be read"),
        (f"200 OK\r\n{JSON}", '{"results": [1]}', "makes no sense"),
        (f"200 OK\r\n{JSON}", "7", "makes no sense"),
    ],
)
async def test_reply_of_another_server_is_recognized(head: str, body: str, words: str) -> None:
    """A redirected POST would arrive as a GET, and the 404 of another server would mean that a prefix is gone."""
    async with answering(head, body) as url, NetBox(url, "t" * 40) as client:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.find("k"),
            lambda: client.get(1),
            lambda: client.update(1, STAMP),
            lambda: client.wire.create("ipam/prefixes/1/available-prefixes", {}),
        ]
        if "results" in body:  # the other calls accept any object
            calls = calls[:1]
        for call in calls:
            failure = await failing(call(), "t" * 40)
            assert isinstance(failure, NotNetBoxError | NetBoxAuthorizationError)
            assert words in str(failure)


async def test_request_without_a_server_names_the_address() -> None:
    async with NetBox(NOBODY, "t" * 40) as client:
        failure = await failing(client.find("k"), "t" * 40)
    assert type(failure) is NetBoxUnreachableError
    assert NOBODY in str(failure)
    assert not isinstance(failure, NonRetryableError | AmbiguousWriteError)


async def test_token_that_is_no_header_value_is_not_shown() -> None:
    token = "secret\n" * 6
    async with NetBox(NOBODY, token) as client:
        assert type(await failing(client.find("k"), "secret")) is NetBoxUnreachableError


async def test_private_ca_is_accepted_with_its_file_only(
    netbox_server: NetBoxServer, netbox: NetBox, tmp_path: Path
) -> None:
    ca, key = certificate(tmp_path)
    async with tls(netbox_server.url, (ca, key)) as url:
        async with NetBox(url, netbox_server.token, ca_file=ca) as client:
            assert await client.find("k") is None
        async with NetBox(url, netbox_server.token) as client:
            failure = await failing(client.find("k"), netbox_server.token)
    assert type(failure) is NetBoxUnreachableError
    assert "certificate verify failed: self-signed certificate" in str(failure)
    assert "LASTMILE_NETBOX_CA_FILE" in str(failure)


async def test_invalid_ca_file_is_reported(netbox_server: NetBoxServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        async with NetBox(netbox_server.url.replace("http", "https"), "t" * 40, ca_file=file) as client:
            failure = await failing(client.find("k"), "t" * 40)
        assert type(failure) is NetBoxUnreachableError
        assert "LASTMILE_NETBOX_CA_FILE" in str(failure)


async def test_proxy_and_netrc_of_the_environment_are_ignored(
    netbox_server: NetBoxServer, netbox: NetBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password lovelace\n")
    netrc.chmod(0o600)
    for name, value in {"NETRC": str(netrc), "HTTP_PROXY": NOBODY, "NO_PROXY": "", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    async with NetBox(netbox_server.url, netbox_server.token) as client:
        assert await client.find("k") is None


async def test_requests_are_limited_to_in_flight(netbox_server: NetBoxServer, netbox: NetBox) -> None:
    """The event loop is not blocked meanwhile."""
    full, resume = threading.Event(), threading.Event()
    arrived: list[int] = []

    def hold() -> None:
        arrived.append(1)
        if len(arrived) >= 3:
            full.set()
        resume.wait()

    async with NetBox(netbox_server.url, netbox_server.token, in_flight=3) as client:
        await client.require()
        netbox_server.faults.chance(Fault(hold=hold), 1, method="POST")
        stamps = [replace(STAMP, key=f"k{number}") for number in range(9)]
        prefixes = POOL.subnets(new_prefix=56)
        calls = [asyncio.create_task(client.create(next(prefixes), vrf_id=None, stamp=stamp)) for stamp in stamps]
        assert await asyncio.to_thread(full.wait, 60)
        for _ in range(5):
            assert await netbox.find("k0") is None
        assert len(arrived) == 3
        resume.set()
        await asyncio.gather(*calls)
    assert len(await prefixes_below(netbox)) == 9


async def test_request_cancelled_in_the_queue_is_not_sent(netbox_server: NetBoxServer, netbox: NetBox) -> None:
    arrived, resume = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        resume.wait()

    async with NetBox(netbox_server.url, netbox_server.token, in_flight=1) as client:
        await client.require()
        netbox_server.faults.next(Fault(hold=hold), method="POST")
        under_way, queued = (
            asyncio.create_task(
                client.create(ip_network(f"2001:db8:{key}::/56"), vrf_id=None, stamp=replace(STAMP, key=key))
            )
            for key in ("1", "2")
        )
        assert await asyncio.to_thread(arrived.wait, 60)
        for task in (queued, under_way):
            task.cancel()
        resume.set()
    assert await prefixes_below(netbox) == ["2001:db8:1::/56"]  # closing waits for it


@pytest.fixture
async def log(caplog: pytest.LogCaptureFixture) -> AsyncIterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_logs_never_contain_the_token(
    log: pytest.LogCaptureFixture, netbox_server: NetBoxServer, netbox: NetBox, parent: int
) -> None:
    netbox_server.faults.next(LOST, method="POST")
    await failing(netbox.available(parent, 56, STAMP), netbox_server.token)
    assert await netbox.find(STAMP.key)
    assert "cf_lastmile_key" in log.text
    assert netbox_server.token not in log.text
    assert netbox_server.token not in repr(vars(netbox))


async def test_requests_are_counted_and_timed(netbox: NetBox, netbox_server: NetBoxServer) -> None:
    """Every request counts, repeated ones too, and every failure counts by its type."""
    await netbox.require()
    counted = Counted()
    netbox_server.faults.next(proxy(503), method="GET", times=2)
    assert await netbox.get(4711) is None
    netbox_server.faults.next(POSTGRES_DOWN, method="POST")
    with pytest.raises(NetBoxServerError):
        await netbox.create(POOL, vrf_id=None, stamp=STAMP)
    assert counted.since("lastmile_netbox_request_duration_seconds_count") == {("GET",): 3, ("POST",): 1}
    assert counted.since("lastmile_netbox_errors_total") == {
        ("NetBoxUnavailableError", "GET"): 2,
        ("NetBoxNotFoundError", "GET"): 1,
        ("NetBoxServerError", "POST"): 1,
    }
