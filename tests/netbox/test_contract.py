"""Replay the recorded requests in order, against the stand-in or a real NetBox, and compare the replies."""

from dataclasses import dataclass

from lastmile.devstack.netbox.model.versions import V4_4, V4_6, Version
from tests.netbox.replay import Replay, pairs
from tests.netbox.versions import each_version
from tests.support.netbox_peer import Peer

# Recorded while a component of NetBox was down: test_faults.py simulates that with the stand-in.
BROKEN = ("redis", "postgres", "database read-only")


@dataclass(frozen=True)
class Recording:
    """A file of recorded requests and replies, and the recorded ids of objects that no request creates."""

    file: str
    vrf: int
    first_parent: int
    second_parent: int


RECORDINGS = {
    V4_4.api: Recording("contract.jsonl", vrf=17, first_parent=59011, second_parent=59101),
    V4_6.api: Recording("contract-4.6.jsonl", vrf=33, first_parent=227, second_parent=231),
}


@each_version
def test_replies_equal_the_recorded_ones(version: Version, peer: Peer) -> None:
    tokens = {
        "none": "",
        "invalid": "f" * 40,
        "read-only": peer.token_for("view", "add", write_enabled=False),
        "user-without-permissions": peer.token_for(),
    }
    recording = RECORDINGS[version.api]
    replay = Replay(peer, tokens)
    for pair in pairs(recording.file):
        if pair["label"].startswith(BROKEN):
            continue
        _prepare(pair["label"], replay, peer, recording)
        replay.play(pair)
    assert not replay.differences, "\n".join(replay.differences)


def _prepare(label: str, replay: Replay, peer: Peer, recording: Recording) -> None:
    """Create the objects that existed before the last requests, which were recorded in a session of their own."""
    if "(first run)" in label:
        vrf = peer.create("/api/ipam/vrfs/", name="e_fault")["id"]
        replay.know("ipam/vrfs", recording.vrf, vrf)
        replay.know("ipam/prefixes", recording.first_parent, _parent(peer, vrf, "2001:db8::/40", used=2))
    elif label.startswith("MAINTENANCE_MODE"):
        [vrf] = [one["id"] for one in peer.found("/api/ipam/vrfs/?name=e_fault")]
        for prefix in peer.found(f"/api/ipam/prefixes/?vrf_id={vrf}"):
            peer.send("DELETE", f"/api/ipam/prefixes/{prefix['id']}/")
        replay.know("ipam/prefixes", recording.second_parent, _parent(peer, vrf, "2001:db8::/40", used=0))
    elif label.startswith("just after DELETE"):
        [vrf] = [one["id"] for one in peer.found("/api/ipam/vrfs/?name=e_fault")]
        [parent] = peer.found(f"/api/ipam/prefixes/?vrf_id={vrf}&status=container")
        *_, last = _allocate(peer, parent["id"], 3)
        assert last["prefix"] == "2001:db8:0:300::/56", "\n".join(replay.differences)
        assert peer.send("DELETE", f"/api/ipam/prefixes/{last['id']}/").status_code == 204


def _parent(peer: Peer, vrf: int, prefix: str, *, used: int) -> int:
    parent: int = peer.create("/api/ipam/prefixes/", prefix=prefix, vrf=vrf, status="container")["id"]
    _allocate(peer, parent, used)
    return parent


def _allocate(peer: Peer, parent: int, number: int) -> list[dict[str, object]]:
    path = f"/api/ipam/prefixes/{parent}/available-prefixes/"
    return [peer.create(path, prefix_length=56) for _ in range(number)]
