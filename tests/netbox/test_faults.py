"""The faults of the stand-in, and the content of its store after each."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import (
    CUT,
    DROPPED,
    LOST,
    POSTGRES_DOWN,
    READ_ONLY,
    REDIS_DOWN,
    REDIS_LOST,
    Fault,
    Faults,
    proxy,
)
from lastmile.devstack.netbox.http.latency import MEASURED
from lastmile.devstack.netbox.http.server import TOKEN
from lastmile.devstack.server import ServerProcess
from tests.netbox.replay import pairs
from tests.support.netbox_peer import Peer

PREFIXES = "/api/ipam/prefixes/"


@pytest.fixture
def client(netbox_server: NetBoxServer) -> Peer:
    return Peer(netbox_server.url, netbox_server.token)


def post(client: Peer, prefix: str = "2001:db8::/56") -> requests.Response:
    return client.send("POST", PREFIXES, {"prefix": prefix})


def prefixes(client: Peer) -> list[str]:
    return [one["prefix"] for one in client.found(PREFIXES)]


@pytest.mark.parametrize("fault", [LOST, CUT])
def test_lost_or_cut_reply_leaves_the_created_prefix(netbox_server: NetBoxServer, client: Peer, fault: Fault) -> None:
    netbox_server.faults.next(fault, method="POST")
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        post(client)
    assert prefixes(client) == ["2001:db8::/56"]


def test_dropped_request_creates_nothing(netbox_server: NetBoxServer, client: Peer) -> None:
    netbox_server.faults.next(DROPPED, method="POST")
    with pytest.raises(requests.ConnectionError):
        post(client)
    assert prefixes(client) == []


@pytest.mark.parametrize("status", [502, 503, 504, 429])
def test_proxy_reply_creates_nothing(netbox_server: NetBoxServer, client: Peer, status: int) -> None:
    netbox_server.faults.next(proxy(status, retry_after=7), method="POST", times=2)
    replies = [post(client), post(client)]
    assert [reply.status_code for reply in replies] == [status, status]
    assert replies[0].headers["Retry-After"] == "7"
    assert "API-Version" not in replies[0].headers
    assert prefixes(client) == []


def test_request_abandoned_by_the_client_is_still_executed(netbox_server: NetBoxServer, client: Peer) -> None:
    gone = threading.Event()
    netbox_server.faults.next(Fault(hold=lambda: gone.wait(30)), method="POST")
    headers = {"Authorization": f"Token {netbox_server.token}"}
    with pytest.raises(requests.ReadTimeout):
        requests.post(client.url + PREFIXES, json={"prefix": "2001:db8::/56"}, headers=headers, timeout=(30, 0.1))
    assert prefixes(client) == []
    gone.set()
    while not prefixes(client):
        pass  # the server does not report the end; the time-out of the test limits this


@pytest.mark.parametrize(
    ("fault", "label", "rows"),
    [
        (REDIS_LOST, "redis lost during the request", 1),
        (REDIS_DOWN, "redis down", 0),
        (POSTGRES_DOWN, "postgres down", 0),
        (READ_ONLY, "database read-only", 0),
    ],
)
def test_outage_of_a_component_equals_the_recorded_reply(
    netbox_server: NetBoxServer, client: Peer, fault: Fault, label: str, rows: int
) -> None:
    parent = client.create(PREFIXES, prefix="2001:db8::/40")["id"]
    netbox_server.faults.next(fault, path="available-prefixes")
    reply = client.send("POST", f"{PREFIXES}{parent}/available-prefixes/", {"prefix_length": 56})
    for recorded in (pair for pair in pairs() if pair["label"].startswith(label)):
        assert (reply.status_code, reply.headers["Content-Type"]) == (recorded["status"], recorded["content_type"])
        assert recorded["response_json"] is None or reply.json() == recorded["response_json"]
    assert len(client.found(f"{PREFIXES}?within=2001:db8::/40")) == rows


def test_restart_loses_open_requests_and_keeps_stored_objects(netbox_server: NetBoxServer, client: Peer) -> None:
    post(client)
    working, resume = threading.Event(), threading.Event()

    def hold() -> None:
        working.set()
        assert resume.wait(30)

    netbox_server.faults.next(Fault(hold=hold), method="POST")
    with ThreadPoolExecutor(1) as thread:
        lost = thread.submit(post, client, "2001:db8:0:100::/56")
        assert working.wait(30)
        netbox_server.restart()
        with pytest.raises(requests.ConnectionError):
            lost.result()
    resume.set()
    client = Peer(netbox_server.url, netbox_server.token)
    assert post(client, "2001:db8:0:200::/56").status_code == 201
    assert prefixes(client) == ["2001:db8::/56", "2001:db8:0:200::/56"]


def test_stopped_server_refuses_and_loading_server_delays_connections(netbox_server: NetBoxServer) -> None:
    client = Peer(netbox_server.url, netbox_server.token)
    netbox_server.stop()
    with pytest.raises(requests.ConnectionError):
        prefixes(client)
    ready = threading.Event()
    netbox_server.start(ready=ready)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(prefixes, client)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.1)
        ready.set()
        assert waiting.result() == []


def test_data_file_keeps_objects_and_used_ids(tmp_path: Path) -> None:
    with NetBoxServer(file=tmp_path / "netbox.db") as server:
        client = Peer(server.url, server.token)
        first, second = post(client).json(), post(client, "2001:db8:0:100::/56").json()
        client.send("DELETE", f"{PREFIXES}{second['id']}/")
    with NetBoxServer(file=tmp_path / "netbox.db") as server:
        client = Peer(server.url, server.token)
        [env] = client.found(PREFIXES)
        assert (env["id"], env["prefix"], env["created"]) == (first["id"], "2001:db8::/56", first["created"])
        assert post(client).status_code == 400  # the prefix still exists
        assert post(client, "2001:db8:0:200::/56").json()["id"] > second["id"]


def test_random_faults_are_repeatable_and_counted() -> None:
    def run(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.chance(LOST, 0.2, method="POST")
        met = [faults.pick("POST", PREFIXES) is LOST for _ in range(1000)]
        assert sum(met) == faults.met[LOST]
        assert faults.pick("GET", PREFIXES) is not LOST
        return met

    assert run(1) == run(1) != run(2)
    assert 150 < sum(run(1)) < 250


def test_requested_fault_comes_before_a_random_one() -> None:
    faults = Faults()
    faults.chance(CUT, 1)
    faults.next(LOST, path="available-prefixes")
    assert faults.pick("POST", PREFIXES) is CUT
    assert faults.pick("POST", f"{PREFIXES}1/available-prefixes/") is LOST
    faults.clear()
    assert faults.pick("POST", PREFIXES) == Fault()


def test_server_with_latency_gives_the_same_replies() -> None:
    with NetBoxServer(costs=MEASURED) as server:
        client = Peer(server.url, server.token)
        parent = client.create(PREFIXES, prefix="2001:db8::/40")["id"]
        created = client.create(f"{PREFIXES}{parent}/available-prefixes/", prefix_length=56)
        assert created["prefix"] == "2001:db8::/56"
        assert client.send("DELETE", f"{PREFIXES}{created['id']}/").status_code == 204


async def test_launcher_serves_until_it_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lastmile.devstack.netbox", "--file", str(tmp_path / "netbox.db")]
    server = await ServerProcess.start("NetBox", command, log=tmp_path / "log")

    async def listens() -> bool:
        return "\n" in server.output()

    try:
        await server.ready(listens, within=30)
        url = server.output().split()[-1]
        reply = await asyncio.to_thread(Peer(url, TOKEN).send, "GET", "/api/status/")
        assert reply.json()["netbox-version"].startswith("4.4")
    finally:
        await server.stop()
