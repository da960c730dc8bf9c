"""Writes: what the client stores, what it repeats, and what it never repeats."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest

from ipam.lifecycle import State
from ipam.netbox import NetBox, NetBoxRecord
from ipam.netbox.errors import (
    AmbiguousWriteError,
    ConnectionLostError,
    KeyTakenError,
    NetBoxError,
    NetBoxNotReadyError,
    NetBoxServerError,
    NetBoxTimeoutError,
    NetBoxUnavailableError,
)
from ipam.netbox.records import STATUS
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import (
    CUT,
    DROPPED,
    LOST,
    NO_FAULT,
    POSTGRES_DOWN,
    READ_ONLY,
    REDIS_DOWN,
    REDIS_LOST,
    Fault,
    proxy,
)
from lastmile.errors import NonRetryableError
from tests.support.held_requests import HeldRequest
from tests.support.netbox_calls import HTML, POOL, PREFIXES, STAMP, failing, prefixes_below
from tests.support.netbox_peer import Peer
from tests.support.other_servers import answering


async def test_available_stores_the_whole_stamp(netbox: NetBox, parent: int, other_user: Peer) -> None:
    made = await netbox.available(parent, 56, replace(STAMP, description="Ada"))
    assert made == await netbox.find(STAMP.key) == await netbox.get(made.id)
    assert made == NetBoxRecord(
        id=made.id,
        prefix=ip_network("2001:db8::/56"),
        vrf_id=None,
        status="reserved",
        key=STAMP.key,
        subscriber_ref="S-1",
        state="allocated",
        link=STAMP.link,
        tenant="acme",
        description="Ada",
        tags=("lastmile",),
        used=None,
        size=None,
        last_updated=made.last_updated,
        fields={},  # not compared
    )
    [shown] = other_user.found(f"{PREFIXES}?tag=lastmile")
    assert shown["custom_fields"]["lastmile_link"] == "https://x/S-1"


@pytest.mark.parametrize("state", State)
async def test_available_sets_the_status_of_the_state(netbox: NetBox, parent: int, state: State) -> None:
    made = await netbox.available(parent, 56, replace(STAMP, state=state))
    assert (made.state, made.status) == (state, STATUS[state])
    assert (STATUS[state] == "active") is (state in (State.ACTIVE, State.SUSPENDED))


async def test_available_uses_the_vrf_of_the_parent(netbox: NetBox, other_user: Peer) -> None:
    vrf = int(other_user.create("/api/ipam/vrfs/", name="access")["id"])
    parent = int(other_user.create(PREFIXES, prefix=str(POOL), vrf=vrf)["id"])
    made = await netbox.available(parent, 56, STAMP)
    assert made.vrf_id == vrf
    assert await netbox.find(STAMP.key) == made
    other = await netbox.create(made.prefix, vrf_id=None, stamp=replace(STAMP, key="k2"))
    assert other.vrf_id is None


@pytest.mark.parametrize(
    ("fault", "name", "written"),
    [
        (LOST, ConnectionLostError, True),
        (CUT, ConnectionLostError, True),
        (DROPPED, ConnectionLostError, False),
        (REDIS_DOWN, NetBoxServerError, False),
        (REDIS_LOST, NetBoxServerError, True),
        (POSTGRES_DOWN, NetBoxServerError, False),
        (READ_ONLY, NetBoxServerError, False),
        (proxy(429, retry_after=1), NetBoxUnavailableError, False),
        (proxy(502), NetBoxUnavailableError, False),
        (proxy(503), NetBoxUnavailableError, False),
        (proxy(504), NetBoxUnavailableError, False),
    ],
)
@pytest.mark.parametrize("how", ["available", "create"])
async def test_creation_that_fails_is_not_repeated(
    netbox_server: NetBoxServer,
    netbox: NetBox,
    parent: int,
    fault: Fault,
    name: type[NetBoxError],
    written: bool,
    how: str,
) -> None:
    netbox_server.faults.next(fault, method="POST")
    netbox_server.faults.chance(NO_FAULT, 1, method="POST")  # counts the others
    create = {
        "available": lambda: netbox.available(parent, 56, STAMP),
        "create": lambda: netbox.create(ip_network("2001:db8::/56"), vrf_id=None, stamp=STAMP),
    }[how]
    failure = await failing(create(), netbox_server.token)
    assert type(failure) is name
    assert isinstance(failure, AmbiguousWriteError)
    assert not isinstance(failure, NonRetryableError)
    assert netbox_server.faults.met[NO_FAULT] == 0
    assert (await netbox.find(STAMP.key) is not None) is written


async def test_creation_after_a_timeout_is_completed_by_netbox(
    netbox_server: NetBoxServer, netbox: NetBox, parent: int
) -> None:
    held = HeldRequest(netbox_server)
    async with held.abandoned_by(netbox):
        failure = await failing(netbox.available(parent, 56, STAMP), netbox_server.token)
    assert type(failure) is NetBoxTimeoutError
    assert await netbox.find(STAMP.key) is None
    await held.done()
    assert await netbox.find(STAMP.key) is not None


async def test_creation_with_a_used_key_is_refused(netbox: NetBox, netbox_server: NetBoxServer, parent: int) -> None:
    made = await netbox.available(parent, 56, STAMP)
    again: list[Callable[[], Awaitable[object]]] = [
        lambda: netbox.available(parent, 56, STAMP),
        lambda: netbox.create(ip_network("2001:db8:1::/56"), vrf_id=None, stamp=STAMP),
    ]
    for call in again:
        failure = await failing(call(), netbox_server.token)
        assert type(failure) is KeyTakenError
        assert not isinstance(failure, NonRetryableError)
    assert await netbox.find(STAMP.key) == made


async def test_creation_with_an_unreadable_reply_is_ambiguous() -> None:
    async with answering(f"201 Created\r\n{HTML}", "<html></html>") as url, NetBox(url, "t" * 40) as client:
        failure = await failing(client.wire.create("ipam/prefixes", {}), "t" * 40)
    assert type(failure) is ConnectionLostError


async def test_creation_that_loses_its_key_is_deleted(
    netbox_server: NetBoxServer, netbox: NetBox, parent: int, other_user: Peer
) -> None:
    async with NetBox(netbox_server.url, netbox_server.token) as second:
        for client in (netbox, second):
            await client.require()
        [field] = other_user.found("/api/extras/custom-fields/?name=lastmile_key")
        other_user.send("DELETE", f"/api/extras/custom-fields/{field['id']}/")
        with pytest.raises(NetBoxNotReadyError, match=r"check` says what is wrong$"):
            await netbox.available(parent, 56, STAMP)
        assert await prefixes_below(netbox) == []
        with pytest.raises(NetBoxNotReadyError, match=r"custom field lastmile_key of prefixes .*: missing"):
            await netbox.available(parent, 56, STAMP)
        netbox_server.faults.next(proxy(503, retry_after=60), method="DELETE")
        with pytest.raises(NetBoxNotReadyError, match=r"2001:db8::/56 \(#\d+\) is left there"):
            await second.available(parent, 56, STAMP)


@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED, POSTGRES_DOWN, proxy(502), proxy(503, retry_after=1)])
async def test_idempotent_requests_are_repeated(
    netbox_server: NetBoxServer, netbox: NetBox, parent: int, fault: Fault
) -> None:
    made = await netbox.available(parent, 56, STAMP)
    netbox_server.faults.next(fault, method="GET")
    assert await netbox.find(STAMP.key) == made
    netbox_server.faults.next(fault, method="PATCH")
    assert (await netbox.update(made.id, replace(STAMP, state=State.ACTIVE))).status == "active"
    netbox_server.faults.next(fault, method="DELETE")
    await netbox.delete(made.id)
    assert await netbox.get(made.id) is None
    assert netbox_server.faults.met[fault] == 3


async def test_idempotent_request_gives_up_after_three_attempts(netbox_server: NetBoxServer, netbox: NetBox) -> None:
    netbox_server.faults.next(DROPPED, method="GET", times=9)
    assert type(await failing(netbox.find("k"), netbox_server.token)) is ConnectionLostError
    assert netbox_server.faults.met[DROPPED] == 3


async def test_long_retry_after_is_passed_to_the_caller(netbox_server: NetBoxServer, netbox: NetBox) -> None:
    netbox_server.faults.next(proxy(429, retry_after=60), method="GET")
    failure = await failing(netbox.find("k"), netbox_server.token)
    assert failure.retry_after == 60


async def test_update_keeps_changes_of_other_users(netbox: NetBox, parent: int, other_user: Peer) -> None:
    made = await netbox.available(parent, 56, STAMP)
    other_user.create("/api/extras/tags/", name="VIP", slug="vip")
    other_user.create("/api/extras/custom-fields/", name="note", type="text", object_types=["ipam.prefix"])
    change = {"tags": [{"slug": "vip"}], "custom_fields": {"note": "n"}, "description": "by hand"}
    other_user.send("PATCH", f"{PREFIXES}{made.id}/", change)
    await netbox.update(made.id, replace(STAMP, state=State.REVOKED))
    [shown] = other_user.found(f"{PREFIXES}?id={made.id}")
    assert ([tag["slug"] for tag in shown["tags"]], shown["description"]) == (["vip"], "by hand")
    assert shown["custom_fields"]["note"] == "n"
    assert (shown["status"]["value"], shown["custom_fields"]["lastmile_state"]) == ("deprecated", "revoked")


async def test_delete_of_a_missing_record_succeeds(netbox: NetBox, parent: int) -> None:
    made = await netbox.available(parent, 56, STAMP)
    await netbox.delete(made.id)
    await netbox.delete(made.id)
    assert await netbox.find(STAMP.key) is None


async def test_delete_with_id_zero_deletes_nothing(netbox: NetBox, parent: int) -> None:
    """pynetbox treats the id 0 as no id, and would send the request for all prefixes."""
    await netbox.available(parent, 56, STAMP)
    await netbox.delete(0)
    assert await netbox.get(0) is None
    assert await prefixes_below(netbox) == ["2001:db8::/56"]
