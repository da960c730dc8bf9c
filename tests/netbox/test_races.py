"""Two at once: what NetBox's lock protects, and what nothing protects."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import Fault
from tests.support.netbox_peer import Peer

PREFIXES = "/api/ipam/prefixes/"


def at_once(peer: Peer, number: int, path: str, body: Any) -> list[requests.Response]:
    """The replies to the same POST, sent by so many clients side by side."""
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(lambda _: Peer(peer.url, peer.token).send("POST", path, body), range(number)))


def pool(peer: Peer) -> tuple[int, int]:
    """A VRF that enforces uniqueness, and a container in it."""
    vrf = peer.create("/api/ipam/vrfs/", name="lastmile-races")["id"]
    return vrf, peer.create(PREFIXES, prefix="2001:db8::/40", vrf=vrf, status="container")["id"]


def remove(peer: Peer, vrf: int) -> None:
    for prefix in peer.found(f"{PREFIXES}?vrf_id={vrf}"):
        peer.send("DELETE", f"{PREFIXES}{prefix['id']}/")


def unique_key(peer: Peer) -> None:
    peer.create(
        "/api/extras/custom-fields/", name="lastmile_race", type="text", object_types=["ipam.prefix"], unique=True
    )


def test_available_prefixes_gives_each_its_own(peer: Peer) -> None:
    vrf, parent = pool(peer)
    replies = at_once(peer, 8, f"{PREFIXES}{parent}/available-prefixes/", {"prefix_length": 56})
    assert len({reply.json()["prefix"] for reply in replies}) == 8
    remove(peer, vrf)


def test_available_prefixes_gives_a_unique_key_once(peer: Peer) -> None:
    vrf, parent = pool(peer)
    unique_key(peer)
    body = {"prefix_length": 56, "custom_fields": {"lastmile_race": "k-1"}}
    replies = at_once(peer, 8, f"{PREFIXES}{parent}/available-prefixes/", body)
    assert sorted(reply.status_code for reply in replies) == [201] + [400] * 7
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&cf_lastmile_race=k-1")) == 1
    remove(peer, vrf)


def test_one_lock_covers_all_parents(standin: NetBoxServer) -> None:
    peer = Peer(standin.url, standin.token)
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

    standin.faults.next(Fault(hold=hold_first), path="available-prefixes")
    standin.faults.next(Fault(hold=enter), path="available-prefixes")
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
def test_nothing_protects_plain_creates(standin: NetBoxServer, keyed: bool) -> None:
    """Each has passed the checks before any commits, as happens on a real NetBox with 16 clients."""
    peer = Peer(standin.url, standin.token)
    vrf, _ = pool(peer)
    unique_key(peer)
    body = {"prefix": "2001:db8:0:100::/56", "vrf": vrf} | ({"custom_fields": {"lastmile_race": "k"}} if keyed else {})
    standin.faults.next(Fault(hold=threading.Barrier(4).wait), method="POST", path=PREFIXES, times=4)
    replies = at_once(peer, 4, PREFIXES, body)
    assert [reply.status_code for reply in replies] == [201] * 4
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&prefix=2001:db8:0:100::/56")) == 4
    assert peer.send("POST", PREFIXES, body).status_code == 400  # one by one the check does hold


def test_a_plain_create_can_take_what_is_just_being_allocated(standin: NetBoxServer) -> None:
    peer = Peer(standin.url, standin.token)
    vrf, parent = pool(peer)
    chosen, created = threading.Event(), threading.Event()

    def hold() -> None:
        chosen.set()
        assert created.wait(30)

    standin.faults.next(Fault(hold=hold), path="available-prefixes")
    with ThreadPoolExecutor(1) as thread:
        path = f"{PREFIXES}{parent}/available-prefixes/"
        allocation = thread.submit(Peer(peer.url, peer.token).send, "POST", path, {"prefix_length": 56})
        assert chosen.wait(30)
        peer.create(PREFIXES, prefix="2001:db8::/56", vrf=vrf)
        created.set()
        assert allocation.result().json()["prefix"] == "2001:db8::/56"
    assert len(peer.found(f"{PREFIXES}?vrf_id={vrf}&prefix=2001:db8::/56")) == 2
