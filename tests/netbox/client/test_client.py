"""The client: the error type of each failure, what is repeated, and what is never repeated."""

import asyncio
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from ipam.errors import InvalidPoolError
from ipam.lifecycle import State
from ipam.netbox import NetBox, NetBoxRecord, Stamp
from ipam.netbox.binding import resolve_prefix
from ipam.netbox.errors import (
    AmbiguousWriteError,
    ConnectionLostError,
    KeyTakenError,
    NetBoxAuthorizationError,
    NetBoxError,
    NetBoxExhaustedError,
    NetBoxInvalidError,
    NetBoxNotFoundError,
    NetBoxNotReadyError,
    NetBoxServerError,
    NetBoxTenantMissingError,
    NetBoxTimeoutError,
    NetBoxUnavailableError,
    NetBoxUnreachableError,
    NotNetBoxError,
)
from ipam.netbox.records import STATUS
from ipam.netbox.requirements import check, set_up
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.faults import (
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
from lastmile.devstack.netbox.http_errors import HttpError
from lastmile.devstack.netbox.versions import Version
from lastmile.errors import NonRetryableError, OutageError
from tests.netbox.versions import each_version
from tests.support.held_requests import HeldRequest
from tests.support.metrics import Counted
from tests.support.netbox_peer import Peer
from tests.support.other_servers import answering, certificate, tls

STAMP = Stamp(
    key="acme/S-1/ipv6_pd/o1", subscriber_ref="S-1", state=State.ALLOCATED, tenant="acme", link="https://x/S-1"
)
POOL = ip_network("2001:db8::/32")
PREFIXES = "/api/ipam/prefixes/"
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def other_user(netbox_server: NetBoxServer) -> Peer:
    """Return a client of another user of the same NetBox."""
    return Peer(netbox_server.url, netbox_server.token)


@pytest.fixture
async def parent(netbox: NetBox, other_user: Peer) -> int:
    return int(other_user.create(PREFIXES, prefix=str(POOL), status="container")["id"])


async def failing(call: Awaitable[object], secret: str) -> NetBoxError:
    """Return the failure of the call. It must not contain the secret, nor an original exception that may contain it."""
    with pytest.raises(NetBoxError) as caught:
        await call
    failure = caught.value
    assert secret not in "".join(traceback.format_exception(failure))
    assert failure.__cause__ is None
    assert failure.__context__ is None
    assert "\n" not in str(failure)
    return failure


async def held(netbox: NetBox) -> list[str]:
    """Return the prefixes below the pool, in order of creation."""
    return [str(one.prefix) async for one in netbox.records(vrf_id=None, within=POOL)]


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


async def test_refusal_contains_the_message_of_netbox(netbox: NetBox, netbox_server: NetBoxServer, parent: int) -> None:
    await netbox.available(parent, 56, STAMP)
    other = replace(STAMP, key="k2")
    there = ip_network("2001:db8::/56")
    table: list[tuple[Awaitable[object], type[NetBoxError], str]] = [
        (netbox.available(parent, 31, other), NetBoxExhaustedError, "Insufficient resources"),
        (
            netbox.available(parent, 129, other),
            NetBoxInvalidError,
            "prefix_length: Invalid prefix length (129) for IPv6",
        ),
        (netbox.available(999, 56, other), NetBoxNotFoundError, "No Prefix matches the given query."),
        (netbox.create(there, vrf_id=None, stamp=other), NetBoxInvalidError, "Duplicate prefix found in global table"),
        (netbox.update(999, other), NetBoxNotFoundError, "PATCH ipam/prefixes/999"),
    ]
    for call, name, words in table:
        failure = await failing(call, netbox_server.token)
        assert type(failure) is name
        assert isinstance(failure, NonRetryableError)
        assert words in str(failure)
    assert await held(netbox) == ["2001:db8::/56"]


LACKING: list[tuple[dict[str, Any], type[NetBoxError], str]] = [
    (
        {"custom_fields": {"lastmile_key": "Custom field 'lastmile_key' does not exist for this object type."}},
        NetBoxNotReadyError,
        "NetBox has no custom field lastmile_key of prefixes: run `lastmile netbox setup`",
    ),
    (
        {"tags": ["Related object not found using the provided attributes: {'slug': 'lastmile'}"]},
        NetBoxNotReadyError,
        "NetBox has no tag lastmile: run `lastmile netbox setup`",
    ),
    (
        {"tenant": ["Related object not found using the provided attributes: {'slug': 'acme'}"]},
        NetBoxTenantMissingError,
        "NetBox has no tenant acme: run `lastmile netbox setup`",
    ),
    (
        {"__all__": ["Missing required custom field 'cost_centre'."]},
        NetBoxNotReadyError,
        "NetBox requires custom field cost_centre of every prefix: do not require it there, or not for prefixes",
    ),
    (
        {"__all__": ["Invalid value for custom field 'cost_centre': Required field cannot be empty."]},
        NetBoxNotReadyError,
        "NetBox requires custom field cost_centre of every prefix: do not require it there, or not for prefixes",
    ),
    (
        {"__all__": ["Invalid value for custom field 'lastmile_key': Value must match regex '^x'"]},
        NetBoxNotReadyError,
        "custom field lastmile_key of NetBox is not as Lastmile needs it: `lastmile netbox check` says why",
    ),
    (
        {"__all__": ["Custom validation failed for description: ['Enter a valid value.']"]},
        NetBoxInvalidError,
        "['Enter a valid value.']. If this is a validator (CUSTOM_VALIDATORS) of NetBox, let it pass prefixes that "
        "have a value in custom field lastmile_key",
    ),
]


@pytest.mark.parametrize(("answer", "name", "words"), LACKING)
async def test_reply_400_caused_by_the_setup_names_the_setup(
    netbox: NetBox,
    netbox_server: NetBoxServer,
    parent: int,
    answer: dict[str, Any],
    name: type[NetBoxError],
    words: str,
) -> None:
    await netbox.require()
    netbox_server.faults.next(Fault(failure=HttpError(400, answer)), method="POST")
    failure = await failing(netbox.available(parent, 56, STAMP), netbox_server.token)
    assert type(failure) is name
    assert words in str(failure)
    assert isinstance(failure, OutageError) is (name is not NetBoxInvalidError)


async def test_deletion_refused_by_a_protection_rule_names_the_exception(
    netbox: NetBox, netbox_server: NetBoxServer, parent: int
) -> None:
    made = await netbox.available(parent, 56, STAMP)
    rule = "Custom validation failed for status: ['Ensure this value is equal to deprecated.']"
    words = f'Deletion is prevented by a protection rule: ["{rule}"]'
    netbox_server.faults.next(Fault(failure=HttpError(400, {"detail": words})), method="DELETE")
    failure = await failing(netbox.delete(made.id), netbox_server.token)
    assert type(failure) is NetBoxInvalidError
    assert str(failure) == (
        f"NetBox refuses DELETE ipam/prefixes/{made.id}: {words}. If this is a protection rule (PROTECTION_RULES) of "
        "NetBox, let it pass prefixes that have a value in custom field lastmile_key"
    )


@each_version
async def test_deleted_custom_field_is_reported_until_it_is_created(
    version: Version, netbox: NetBox, netbox_server: NetBoxServer, other_user: Peer
) -> None:
    parent = int(other_user.create(PREFIXES, prefix="2001:db8::/40", status="container")["id"])
    made = await netbox.available(parent, 56, STAMP)
    [field] = other_user.found("/api/extras/custom-fields/?name=lastmile_state")
    other_user.send("DELETE", f"/api/extras/custom-fields/{field['id']}/")
    if version.refuses_unknown_custom_fields:
        for call in (netbox.available(parent, 56, replace(STAMP, key="k2")), netbox.update(made.id, STAMP)):
            assert type(await failing(call, netbox_server.token)) is NetBoxNotReadyError
    await set_up(netbox.wire, await check(netbox.wire))
    assert (await netbox.available(parent, 56, replace(STAMP, key="k2"))).state == STAMP.state


@pytest.mark.parametrize("largest", [1, 2, 1000])
async def test_lists_are_read_to_the_end_for_any_page_size(
    netbox: NetBox, netbox_server: NetBoxServer, other_user: Peer, largest: int
) -> None:
    """The custom fields of other teams come first, and one of them is required."""
    for n in range(3):
        other_user.create("/api/extras/custom-fields/", name=f"a{n}", type="text", object_types=["ipam.prefix"])
        other_user.create("/api/ipam/vrfs/", name="access")
    other_user.create("/api/extras/custom-fields/", name="z", type="text", object_types=["ipam.prefix"], required=True)
    made = [
        other_user.create(PREFIXES, prefix=f"2001:db8:{n}::/56", custom_fields={"z": "1"})["id"] for n in range(1, 5)
    ]
    netbox_server.store.max_page_size = largest
    problems = [one.problem for one in await check(netbox.wire, tenants={"acme": "Acme Broadband"}) if one.problem]
    assert problems == ["z is required, so NetBox refuses a prefix without it"]
    assert [one.id for one in await netbox.by_ids(made)] == made
    assert [one.id async for one in netbox.records(vrf_id=None)] == made
    with pytest.raises(InvalidPoolError, match="3 VRFs named 'access'"):
        await resolve_prefix(netbox, ip_network("2001:db8::/40"), "access")


async def test_resolve_prefix_with_two_records_names_both(netbox: NetBox, other_user: Peer) -> None:
    """A VRF without uniqueness, or the setting ENFORCE_GLOBAL_UNIQUE = False, permits this."""
    vrf = other_user.create("/api/ipam/vrfs/", name="access", enforce_unique=False)["id"]
    first, second = (other_user.create(PREFIXES, prefix="2001:db8::/40", vrf=vrf)["id"] for _ in range(2))
    with pytest.raises(
        InvalidPoolError, match=rf"more than once \(#{first}, #{second}\): delete all but one in NetBox"
    ):
        await resolve_prefix(netbox, ip_network("2001:db8::/40"), "access")


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


async def test_write_with_a_bad_token_is_refused(
    netbox_server: NetBoxServer, netbox: NetBox, parent: int, other_user: Peer
) -> None:
    reader = other_user.token_for("view", "add", write_enabled=False)
    for token in (reader, "f" * 40):
        async with NetBox(netbox_server.url, token) as client:
            made = await failing(client.wire.create("ipam/prefixes", {"prefix": "2001:db8::/56"}), token)
            assert type(made) is NetBoxAuthorizationError
            assert isinstance(made, OutageError)
            words = "does not let the token do POST" if token == reader else "does not accept the token (Invalid token)"
            assert words in str(made)
    assert await held(netbox) == []


HTML = "Content-Type: text/html"
JSON = "Content-Type: application/json"


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


async def test_creation_with_an_unreadable_reply_is_ambiguous() -> None:
    async with answering(f"201 Created\r\n{HTML}", "<html></html>") as url, NetBox(url, "t" * 40) as client:
        failure = await failing(client.wire.create("ipam/prefixes", {}), "t" * 40)
    assert type(failure) is ConnectionLostError


async def test_server_error_contains_the_message_of_netbox() -> None:
    body = '{"error": "the connection is closed", "exception": "OperationalError", "netbox_version": "4.4.10"}'
    async with answering(f"500 Internal Server Error\r\n{JSON}", body) as url, NetBox(url, "t" * 40) as client:
        failure = await failing(client.find("k"), "t" * 40)
    assert type(failure) is NetBoxServerError
    assert "(500: OperationalError; the connection is closed)" in str(failure)


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
    assert len(await held(netbox)) == 9


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
    assert await held(netbox) == ["2001:db8:1::/56"]  # closing waits for it


async def test_find_without_the_custom_field_is_refused(netbox_server: NetBoxServer, other_user: Peer) -> None:
    """NetBox ignores an unknown filter and lists everything."""
    other_user.create(PREFIXES, prefix="2001:db8::/56")
    async with NetBox(netbox_server.url, netbox_server.token) as client:
        failure = await failing(client.find("k"), netbox_server.token)
    assert type(failure) is NetBoxNotReadyError
    assert "lastmile netbox check" in str(failure)


async def test_find_with_a_loose_filter_returns_no_other_key(netbox: NetBox, parent: int, other_user: Peer) -> None:
    [field] = other_user.found("/api/extras/custom-fields/?name=lastmile_key")
    ten = await netbox.available(parent, 56, replace(STAMP, key="S-10"))
    other_user.send("PATCH", f"/api/extras/custom-fields/{field['id']}/", {"filter_logic": "loose"})
    with pytest.raises(NetBoxNotReadyError):
        await netbox.find("S-1")
    one = await netbox.available(parent, 56, replace(STAMP, key="S-1"))
    assert await netbox.find("S-1") == one
    assert await netbox.find("S-10") == ten


async def test_available_uses_the_vrf_of_the_parent(netbox: NetBox, other_user: Peer) -> None:
    vrf = int(other_user.create("/api/ipam/vrfs/", name="access")["id"])
    parent = int(other_user.create(PREFIXES, prefix=str(POOL), vrf=vrf)["id"])
    made = await netbox.available(parent, 56, STAMP)
    assert made.vrf_id == vrf
    assert await netbox.find(STAMP.key) == made
    other = await netbox.create(made.prefix, vrf_id=None, stamp=replace(STAMP, key="k2"))
    assert other.vrf_id is None


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
        assert await held(netbox) == []
        with pytest.raises(NetBoxNotReadyError, match=r"custom field lastmile_key of prefixes .*: missing"):
            await netbox.available(parent, 56, STAMP)
        netbox_server.faults.next(proxy(503, retry_after=60), method="DELETE")
        with pytest.raises(NetBoxNotReadyError, match=r"2001:db8::/56 \(#\d+\) is left there"):
            await second.available(parent, 56, STAMP)


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
    assert await held(netbox) == ["2001:db8::/56"]


async def test_records_read_while_others_are_deleted_are_complete(
    netbox: NetBox, parent: int, other_user: Peer
) -> None:
    made = [await netbox.available(parent, 56, replace(STAMP, key=f"k{number}")) for number in range(5)]
    other_user.create(PREFIXES, prefix="2001:db9::/56")
    seen = []
    async for one in netbox.records(vrf_id=None, ours=True, page=2):
        seen.append(one)
        await netbox.delete(one.id)
    assert seen == made


async def test_records_since_a_time_are_the_changed_ones(netbox: NetBox, parent: int) -> None:
    made = [await netbox.available(parent, 56, replace(STAMP, key=f"k{number}")) for number in range(3)]
    moment = datetime.now(UTC)
    await netbox.update(made[1].id, replace(STAMP, key="k1", state=State.ACTIVE))
    found: list[Any] = [one.id async for one in netbox.records(vrf_id=None, ours=True, updated_since=moment)]
    assert found == [made[1].id]
    assert [one.id async for one in netbox.records(vrf_id=None, prefix=made[2].prefix)] == [made[2].id]


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
