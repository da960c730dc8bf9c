"""Replay the recorded requests in order against the stand-in, and compare the replies.

What happened between two recorded requests, at a CPE or in the ACS, is in the tables below by the note of the request
that follows.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from lastmile.devstack.genieacs import GenieAcsServer
from lastmile.devstack.genieacs.cpe import Cpe, Parameter, Reachability
from lastmile.devstack.genieacs.cpe_models import tr_098_cpe, tr_181_cpe
from lastmile.devstack.genieacs.session import CpeSession, ProvisionFailedError
from tests.devices.genieacs.replay import Replay, pairs


class Lab:
    """The stand-in with the CPEs of the recordings, and what can happen to them."""

    def __init__(self, server: GenieAcsServer) -> None:
        self.acs = server.acs
        self.first = tr_181_cpe("CPE000001")
        self.digest = tr_181_cpe("CPE000003", mac="02:00:00:00:00:03")
        self.digest.wants_password = True
        self.slow = tr_181_cpe("CPE000004", mac="02:00:00:00:00:04")
        self.old = tr_098_cpe("CPE000002")
        self.session = ExitStack()

    def add(self, *cpes: Cpe) -> None:
        for cpe in cpes:
            self.acs.add(cpe)

    def refresh(self, cpe: Cpe) -> None:
        self.acs.insert({"name": "refreshObject", "objectName": cpe.root, "device": cpe.id})
        self.acs.inform(cpe)


@pytest.fixture
def lab(server: GenieAcsServer) -> Iterator[Lab]:
    lab = Lab(server)
    with lab.session:
        yield lab


Between = Mapping[str, Callable[[Lab], object]]


def replay(server: GenieAcsServer, lab: Lab, name: str, between: Between) -> None:
    """Replay a recording; `between` says what happens before the first request with a note."""
    replay, left = Replay(server.url), dict(between)
    for pair in pairs(name):
        if action := left.pop(pair["note"], None):
            action(lab)
        replay.play(pair)
    assert not replay.differences, "\n".join(replay.differences)
    assert left == {}


def goes(cpe: str, reachability: Reachability) -> Callable[[Lab], None]:
    def go(lab: Lab) -> None:
        getattr(lab, cpe).reachability = reachability

    return go


def test_replies_on_devices_tags_and_tasks_equal_the_recorded_ones(server: GenieAcsServer, lab: Lab) -> None:
    lab.add(lab.first, lab.digest, lab.old, tr_098_cpe("000100"))

    def comes_back(lab: Lab) -> None:
        lab.first.reachability = Reachability.ONLINE
        lab.acs.inform(lab.first)

    replay(
        server,
        lab,
        "nbi",
        {
            "CPE offline: queued": goes("first", Reachability.OFFLINE),
            "after the CPE's next inform the queue is empty": comes_back,
        },
    )
    assert lab.first.read("Device.WiFi.SSID.1.SSID") == "Queued3"


def test_replies_on_presets_and_provisions_equal_the_recorded_ones(server: GenieAcsServer, lab: Lab) -> None:
    lab.add(lab.first)
    lab.refresh(lab.first)
    lab.acs.provisions["noop"] = "const now = Date.now();"

    def provision(session: CpeSession) -> None:
        session.write(
            [("Device.PPP.Interface.1.Username", "alice@isp.example"), ("Device.DHCPv6.Client.1.RequestPrefixes", True)]
        )
        session.tag("provisioned")

    def throw(session: CpeSession) -> None:
        raise ProvisionFailedError("boom")

    def throws(lab: Lab) -> None:
        lab.acs.programs["lastmile-line"] = throw
        lab.acs.inform(lab.first)

    lab.acs.programs["lastmile-line"] = provision
    replay(
        server,
        lab,
        "presets",
        {
            "faults of a preset: channel is the preset's": throws,
            "set the same value after the CPE lost it": lambda lab: lab.first.reset(silent=True),
        },
    )
    assert [value for values in lab.first.written for value in values.values()].count("Mine") == 1


def test_replies_on_sessions_and_resets_equal_the_recorded_ones(server: GenieAcsServer, lab: Lab) -> None:
    lab.add(lab.first, lab.slow)

    def loses_everything(lab: Lab) -> None:
        lab.first.reset()
        lab.acs.inform(lab.first)

    def ends_session(lab: Lab) -> None:
        lab.session.close()
        lab.acs.inform(lab.slow)
        lab.slow.reachability = Reachability.OFFLINE

    replay(
        server,
        lab,
        "edges",
        {
            "set the same after a factory reset, with the bootstrap preset in place": loses_everything,
            "delete a task of a device in session: 503": lambda lab: lab.session.enter_context(
                lab.acs.in_session(lab.slow)
            ),
            "CPE process gone: connection refused": ends_session,
            "CPE answers the connection request, but no session follows: default threshold": goes(
                "slow", Reachability.MUTE
            ),
            "CPE does not answer the connection request in 2 s": goes("slow", Reachability.OFFLINE),
        },
    )
    written = [value for values in lab.first.written for value in values.values()]
    assert written.count("Mine") == 2, "the bootstrap preset did not make the ACS forget the value"


def test_replies_on_connection_requests_equal_the_recorded_ones(server: GenieAcsServer, lab: Lab) -> None:
    simulated = recorded_cpe("its WAN objects")
    lab.add(lab.first, lab.digest, simulated)
    lab.refresh(lab.first)

    def expires(lab: Lab) -> None:
        lab.acs.advance(3)
        lab.digest.reachability = Reachability.ONLINE
        lab.acs.inform(lab.digest)

    replay(
        server,
        lab,
        "digest",
        {
            "queue empty after the inform": lambda lab: lab.acs.inform(lab.digest),
            "expiring task, 2 s": goes("digest", Reachability.OFFLINE),
            "expired task: gone after the inform?": expires,
        },
    )
    assert lab.digest.read("Device.WiFi.SSID.1.SSID") == "Digest"


def recorded_cpe(note: str) -> Cpe:
    """Return a CPE with the parameters that the recorded reply shows."""
    [document] = next(pair for pair in pairs("digest") if pair["note"] == note)["response"]
    parameters: dict[str, Parameter] = {}

    def read(node: dict[str, Any], path: str) -> None:
        children = {name: inner for name, inner in node.items() if not name.startswith("_")}
        if "_value" in node:
            parameters[path] = Parameter(node["_value"], node["_type"], node["_writable"])
        elif not children:
            parameters[f"{path}."] = Parameter("")
        for name, inner in children.items():
            read(inner, f"{path}.{name}")

    read(document["InternetGatewayDevice"], "InternetGatewayDevice")
    return Cpe("202BC1", "BM632w", "000100", parameters)
