"""Concurrent requests: what NetBox's lock protects, and what no lock protects."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import Fault
from tests.support.netbox_peer import Peer

PREFIXES = "/api/ipam/prefixes/"


def at_once(peer: Peer, number: int, path: str, body: Any) -> list[requests.Response]:
    """Send the same POST from `number` clients at once; return the replies."""
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(lambda _: Peer(peer.url, peer.token).send("POST", path, body), range(number)))


def pool(peer: Peer) -> tuple[int, int]:
    """Create a VRF that enforces uniqueness and a container in it; return their ids."""
    vrf = peer.create("/api/ipam/vrfs/", name="lastmile-races")["id"]
    return vrf, peer.create(PREFIXES, prefix="2001:db8::/40", vrf=vrf, status="container")["id"]


def remove(peer: Peer, vrf: int) -> None:
    for prefix in peer.found(f"{PREFIXES}?vrf_id={vrf}"):
        peer.send("DELETE", f"{PREFIXES}{prefix['id']}/")


def unique_key(peer: Peer) -> None:
    peer.create(
        "/api/extras/custom-fields/", name="lastmile_race", type="text", object_types=["ipam.prefix"], unique=True
    )


def test_concurrent_available_prefixes_are_distinct(peer: Peer) -> None:
    vrf, parent = pool(peer)
    replies = at_once(peer, 8, f"{PREFIXES}{parent}/available-prefixes/", {"prefix_length": 56})
    assert len({reply.json()["prefix"] for reply in replies}) == 8
    remove(peer, vrf)


def test_concurrent_available_prefixes_accept_a_unique_key_once(peer: Peer) -> None:
    vrf, parent = pool(peer)
    unique_key(peer)
    body = {"prefix_length": 56, "custom_fields": {"lastmile_race": "k-1"}}
    replies = at_once(peer, 8, f"{PREFIXES}{parent}/available-prefixes/", body)
    assert sorted(reply.status_code for reply in replies) == [201] + [400] * 7
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_lastmile_race=k-1")) == 1
    remove(peer, vrf)


def test_available_prefixes_share_one_lock_for_all_parents(netbox_server: NetBoxServer) -> None:
    peer = Peer(netbox_server.url, netbox_server.token)
    parents = [
        peer.create(PREFIXES, prefix="2001:db8::/40", vrf=peer.create("/api/ipam/vrfs/", name=name)["id"])["id"]
        for name in ("one", "other")
    ]
    first_is_in, another_is_in = threading.Event(), threading.Event()
    inside: list[str] = []

    def hold_first() -> None:
        inside.append("in")
        first_is_in.set()
        assert not another_is_in.wait(0.3)
        inside.append("out")

    def enter() -> None:
        inside.append("in")
        another_is_in.set()

    netbox_server.faults.next(Fault(hold=hold_first), path="available-prefixes")
    netbox_server.faults.next(Fault(hold=enter), path="available-prefixes")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(peer.send, "POST", f"{PREFIXES}{parents[0]}/available-prefixes/", {"prefix_length": 56})
        assert first_is_in.wait(30)
        second = threads.submit(
            Peer(peer.url, peer.token).send,
            "POST",
            f"{PREFIXES}{parents[1]}/available-prefixes/",
            {"prefix_length": 56},
        )
        assert [first.result().status_code, second.result().status_code] == [201, 201]
    assert inside == ["in", "out", "in"]


@pytest.mark.parametrize("keyed", [False, True])
def test_concurrent_plain_creates_make_duplicates(netbox_server: NetBoxServer, keyed: bool) -> None:
    """Each request passes the checks before any of them commits. A real NetBox with 16 clients shows this too."""
    peer = Peer(netbox_server.url, netbox_server.token)
    vrf, _ = pool(peer)
    unique_key(peer)
    body = {"prefix": "2001:db8:0:100::/56", "vrf": vrf} | ({"custom_fields": {"lastmile_race": "k"}} if keyed else {})
    netbox_server.faults.next(Fault(hold=threading.Barrier(4).wait), method="POST", path=PREFIXES, times=4)
    replies = at_once(peer, 4, PREFIXES, body)
    assert [reply.status_code for reply in replies] == [201] * 4
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&prefix=2001:db8:0:100::/56")) == 4
    assert peer.send("POST", PREFIXES, body).status_code == 400  # one by one the check does hold


def test_plain_create_during_an_allocation_makes_a_duplicate(netbox_server: NetBoxServer) -> None:
    peer = Peer(netbox_server.url, netbox_server.token)
    vrf, parent = pool(peer)
    chosen, created = threading.Event(), threading.Event()

    def hold() -> None:
        chosen.set()
        assert created.wait(30)

    netbox_server.faults.next(Fault(hold=hold), path="available-prefixes")
    with ThreadPoolExecutor(1) as thread:
        path = f"{PREFIXES}{parent}/available-prefixes/"
        allocation = thread.submit(Peer(peer.url, peer.token).send, "POST", path, {"prefix_length": 56})
        assert chosen.wait(30)
        peer.create(PREFIXES, prefix="2001:db8::/56", vrf=vrf)
        created.set()
        assert allocation.result().json()["prefix"] == "2001:db8::/56"
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&prefix=2001:db8::/56")) == 2
