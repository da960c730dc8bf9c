"""The client: what each failure is called and leaves open, what is tried again, and what never is."""

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
from tests.support.held_requests import Held
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
def people(standin: NetBoxServer) -> Peer:
    """What people do in the same NetBox."""
    return Peer(standin.url, standin.token)


@pytest.fixture
async def parent(netbox: NetBox, people: Peer) -> int:
    return int(people.create(PREFIXES, prefix=str(POOL), status="container")["id"])


async def failing(call: Awaitable[object], secret: str) -> NetBoxError:
    """How it fails: nothing secret in any part of it, and nothing behind it that somebody could print."""
    with pytest.raises(NetBoxError) as caught:
        await call
    failure = caught.value
    assert secret not in "".join(traceback.format_exception(failure))
    assert failure.__cause__ is None
    assert failure.__context__ is None
    assert "\n" not in str(failure)
    return failure


async def held(netbox: NetBox) -> list[str]:
    """What NetBox has below the pool, in order of creation."""
    return [str(one.prefix) async for one in netbox.records(vrf_id=None, within=POOL)]


async def test_a_prefix_carries_all_that_is_known_of_it(netbox: NetBox, parent: int, people: Peer) -> None:
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
    [shown] = people.found(f"{PREFIXES}?tag=lastmile")
    assert shown["custom_fields"]["lastmile_link"] == "https://x/S-1"


@pytest.mark.parametrize("state", State)
async def test_every_state_has_its_status(netbox: NetBox, parent: int, state: State) -> None:
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
async def test_a_creation_is_sent_once_and_can_be_looked_up(
    standin: NetBoxServer, netbox: NetBox, parent: int, fault: Fault, name: type[NetBoxError], written: bool, how: str
) -> None:
    standin.faults.next(fault, method="POST")
    standin.faults.chance(NO_FAULT, 1, method="POST")  # counts the others
    create = {
        "available": lambda: netbox.available(parent, 56, STAMP),
        "create": lambda: netbox.create(ip_network("2001:db8::/56"), vrf_id=None, stamp=STAMP),
    }[how]
    failure = await failing(create(), standin.token)
    assert type(failure) is name
    assert isinstance(failure, AmbiguousWriteError)
    assert not isinstance(failure, NonRetryableError)
    assert standin.faults.met[NO_FAULT] == 0
    assert (await netbox.find(STAMP.key) is not None) is written


@pytest.mark.parametrize("fault", [LOST, CUT, DROPPED, POSTGRES_DOWN, proxy(502), proxy(503, retry_after=1)])
async def test_what_can_be_repeated_is(standin: NetBoxServer, netbox: NetBox, parent: int, fault: Fault) -> None:
    made = await netbox.available(parent, 56, STAMP)
    standin.faults.next(fault, method="GET")
    assert await netbox.find(STAMP.key) == made
    standin.faults.next(fault, method="PATCH")
    assert (await netbox.update(made.id, replace(STAMP, state=State.ACTIVE))).status == "active"
    standin.faults.next(fault, method="DELETE")
    await netbox.delete(made.id)
    assert await netbox.get(made.id) is None
    assert standin.faults.met[fault] == 3


async def test_but_not_for_ever(standin: NetBoxServer, netbox: NetBox) -> None:
    standin.faults.next(DROPPED, method="GET", times=9)
    assert type(await failing(netbox.find("k"), standin.token)) is ConnectionLostError
    assert standin.faults.met[DROPPED] == 3


async def test_a_long_retry_after_is_for_the_caller(standin: NetBoxServer, netbox: NetBox) -> None:
    standin.faults.next(proxy(429, retry_after=60), method="GET")
    failure = await failing(netbox.find("k"), standin.token)
    assert failure.retry_after == 60


async def test_a_timeout_leaves_netbox_at_work(standin: NetBoxServer, netbox: NetBox, parent: int) -> None:
    held = Held(standin)
    async with held.given_up(netbox):
        failure = await failing(netbox.available(parent, 56, STAMP), standin.token)
    assert type(failure) is NetBoxTimeoutError
    assert await netbox.find(STAMP.key) is None
    await held.done()
    assert await netbox.find(STAMP.key) is not None


async def test_a_refusal_has_the_words_of_netbox(netbox: NetBox, standin: NetBoxServer, parent: int) -> None:
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
        failure = await failing(call, standin.token)
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
async def test_an_answer_400_is_blamed_on_the_setup_where_that_is_at_fault(
    netbox: NetBox, standin: NetBoxServer, parent: int, answer: dict[str, Any], name: type[NetBoxError], words: str
) -> None:
    await netbox.require()
    standin.faults.next(Fault(failure=HttpError(400, answer)), method="POST")
    failure = await failing(netbox.available(parent, 56, STAMP), standin.token)
    assert type(failure) is name
    assert words in str(failure)
    assert isinstance(failure, OutageError) is (name is not NetBoxInvalidError)


async def test_a_deletion_refused_by_a_protection_rule_says_what_the_rule_must_let_pass(
    netbox: NetBox, standin: NetBoxServer, parent: int
) -> None:
    made = await netbox.available(parent, 56, STAMP)
    rule = "Custom validation failed for status: ['Ensure this value is equal to deprecated.']"
    words = f'Deletion is prevented by a protection rule: ["{rule}"]'
    standin.faults.next(Fault(failure=HttpError(400, {"detail": words})), method="DELETE")
    failure = await failing(netbox.delete(made.id), standin.token)
    assert type(failure) is NetBoxInvalidError
    assert str(failure) == (
        f"NetBox refuses DELETE ipam/prefixes/{made.id}: {words}. If this is a protection rule (PROTECTION_RULES) of "
        "NetBox, let it pass prefixes that have a value in custom field lastmile_key"
    )


@each_version
async def test_a_custom_field_that_is_deleted_is_not_ready_until_it_is_made_again(
    version: Version, netbox: NetBox, standin: NetBoxServer, people: Peer
) -> None:
    parent = int(people.create(PREFIXES, prefix="2001:db8::/40", status="container")["id"])
    made = await netbox.available(parent, 56, STAMP)
    [field] = people.found("/api/extras/custom-fields/?name=lastmile_state")
    people.send("DELETE", f"/api/extras/custom-fields/{field['id']}/")
    if version.refuses_unknown_custom_fields:
        for call in (netbox.available(parent, 56, replace(STAMP, key="k2")), netbox.update(made.id, STAMP)):
            assert type(await failing(call, standin.token)) is NetBoxNotReadyError
    await set_up(netbox.wire, await check(netbox.wire))
    assert (await netbox.available(parent, 56, replace(STAMP, key="k2"))).state == STAMP.state


@pytest.mark.parametrize("largest", [1, 2, 1000])
async def test_lists_are_read_to_their_end_however_short_a_page_is(
    netbox: NetBox, standin: NetBoxServer, people: Peer, largest: int
) -> None:
    """The custom fields of Lastmile come after those of other teams, and one of these is required."""
    for n in range(3):
        people.create("/api/extras/custom-fields/", name=f"a{n}", type="text", object_types=["ipam.prefix"])
        people.create("/api/ipam/vrfs/", name="access")
    people.create("/api/extras/custom-fields/", name="z", type="text", object_types=["ipam.prefix"], required=True)
    made = [people.create(PREFIXES, prefix=f"2001:db8:{n}::/56", custom_fields={"z": "1"})["id"] for n in range(1, 5)]
    standin.store.max_page_size = largest
    problems = [one.problem for one in await check(netbox.wire, tenants={"acme": "Acme Broadband"}) if one.problem]
    assert problems == ["z is required, so NetBox refuses a prefix without it"]
    assert [one.id for one in await netbox.by_ids(made)] == made
    assert [one.id async for one in netbox.records(vrf_id=None)] == made
    with pytest.raises(InvalidPoolError, match="3 VRFs named 'access'"):
        await resolve_prefix(netbox, ip_network("2001:db8::/40"), "access")


async def test_locate_with_two_records_of_the_prefix_names_both(netbox: NetBox, people: Peer) -> None:
    """As in a VRF that does not enforce uniqueness, or with ENFORCE_GLOBAL_UNIQUE = False."""
    vrf = people.create("/api/ipam/vrfs/", name="access", enforce_unique=False)["id"]
    first, second = (people.create(PREFIXES, prefix="2001:db8::/40", vrf=vrf)["id"] for _ in range(2))
    with pytest.raises(
        InvalidPoolError, match=rf"more than once \(#{first}, #{second}\): delete all but one in NetBox"
    ):
        await resolve_prefix(netbox, ip_network("2001:db8::/40"), "access")


async def test_a_key_that_is_taken_can_be_looked_up(netbox: NetBox, standin: NetBoxServer, parent: int) -> None:
    made = await netbox.available(parent, 56, STAMP)
    again: list[Callable[[], Awaitable[object]]] = [
        lambda: netbox.available(parent, 56, STAMP),
        lambda: netbox.create(ip_network("2001:db8:1::/56"), vrf_id=None, stamp=STAMP),
    ]
    for call in again:
        failure = await failing(call(), standin.token)
        assert type(failure) is KeyTakenError
        assert not isinstance(failure, NonRetryableError)
    assert await netbox.find(STAMP.key) == made


async def test_tokens(standin: NetBoxServer, netbox: NetBox, parent: int, people: Peer) -> None:
    reader = people.token_for("view", "add", write_enabled=False)
    for token in (reader, "f" * 40):
        async with NetBox(standin.url, token) as client:
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
async def test_what_answers_is_not_netbox(head: str, body: str, words: str) -> None:
    """A POST that is redirected would arrive as a GET, and a 404 of another server would say that a prefix is gone."""
    async with answering(head, body) as url, NetBox(url, "t" * 40) as client:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.find("k"),
            lambda: client.get(1),
            lambda: client.update(1, STAMP),
            lambda: client.wire.create("ipam/prefixes/1/available-prefixes", {}),
        ]
        if "results" in body:  # of the others each object would do
            calls = calls[:1]
        for call in calls:
            failure = await failing(call(), "t" * 40)
            assert isinstance(failure, NotNetBoxError | NetBoxAuthorizationError)
            assert words in str(failure)


async def test_a_creation_whose_answer_makes_no_sense_may_have_happened() -> None:
    async with answering(f"201 Created\r\n{HTML}", "<html></html>") as url, NetBox(url, "t" * 40) as client:
        failure = await failing(client.wire.create("ipam/prefixes", {}), "t" * 40)
    assert type(failure) is ConnectionLostError


async def test_a_server_error_in_its_own_words() -> None:
    body = '{"error": "the connection is closed", "exception": "OperationalError", "netbox_version": "4.4.10"}'
    async with answering(f"500 Internal Server Error\r\n{JSON}", body) as url, NetBox(url, "t" * 40) as client:
        failure = await failing(client.find("k"), "t" * 40)
    assert type(failure) is NetBoxServerError
    assert "(500: OperationalError; the connection is closed)" in str(failure)


async def test_nobody_answers() -> None:
    async with NetBox(NOBODY, "t" * 40) as client:
        failure = await failing(client.find("k"), "t" * 40)
    assert type(failure) is NetBoxUnreachableError
    assert NOBODY in str(failure)
    assert not isinstance(failure, NonRetryableError | AmbiguousWriteError)


async def test_a_token_that_is_no_header_is_not_quoted() -> None:
    token = "secret\n" * 6
    async with NetBox(NOBODY, token) as client:
        assert type(await failing(client.find("k"), "secret")) is NetBoxUnreachableError


async def test_a_private_ca(standin: NetBoxServer, netbox: NetBox, tmp_path: Path) -> None:
    ca, key = certificate(tmp_path)
    async with tls(standin.url, (ca, key)) as url:
        async with NetBox(url, standin.token, ca_file=ca) as client:
            assert await client.find("k") is None
        async with NetBox(url, standin.token) as client:
            failure = await failing(client.find("k"), standin.token)
    assert type(failure) is NetBoxUnreachableError
    assert "certificate verify failed: self-signed certificate" in str(failure)
    assert "LASTMILE_NETBOX_CA_FILE" in str(failure)


async def test_a_ca_file_that_is_none(standin: NetBoxServer, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        async with NetBox(standin.url.replace("http", "https"), "t" * 40, ca_file=file) as client:
            failure = await failing(client.find("k"), "t" * 40)
        assert type(failure) is NetBoxUnreachableError
        assert "LASTMILE_NETBOX_CA_FILE" in str(failure)


async def test_the_environment_changes_neither_token_nor_way(
    standin: NetBoxServer, netbox: NetBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ada password lovelace\n")
    netrc.chmod(0o600)
    for name, value in {"NETRC": str(netrc), "HTTP_PROXY": NOBODY, "NO_PROXY": "", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    async with NetBox(standin.url, standin.token) as client:
        assert await client.find("k") is None


async def test_so_many_at_once_and_no_more(standin: NetBoxServer, netbox: NetBox) -> None:
    """The event loop goes on meanwhile: it is what lets the requests go on."""
    full, go_on = threading.Event(), threading.Event()
    arrived: list[int] = []

    def hold() -> None:
        arrived.append(1)
        if len(arrived) >= 3:
            full.set()
        go_on.wait()

    async with NetBox(standin.url, standin.token, in_flight=3) as client:
        await client.require()
        standin.faults.chance(Fault(hold=hold), 1, method="POST")
        stamps = [replace(STAMP, key=f"k{number}") for number in range(9)]
        prefixes = POOL.subnets(new_prefix=56)
        calls = [asyncio.create_task(client.create(next(prefixes), vrf_id=None, stamp=stamp)) for stamp in stamps]
        assert await asyncio.to_thread(full.wait, 60)
        for _ in range(5):
            assert await netbox.find("k0") is None
        assert len(arrived) == 3
        go_on.set()
        await asyncio.gather(*calls)
    assert len(await held(netbox)) == 9


async def test_who_is_cancelled_in_the_queue_sends_nothing(standin: NetBoxServer, netbox: NetBox) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        go_on.wait()

    async with NetBox(standin.url, standin.token, in_flight=1) as client:
        await client.require()
        standin.faults.next(Fault(hold=hold), method="POST")
        under_way, queued = (
            asyncio.create_task(
                client.create(ip_network(f"2001:db8:{key}::/56"), vrf_id=None, stamp=replace(STAMP, key=key))
            )
            for key in ("1", "2")
        )
        assert await asyncio.to_thread(arrived.wait, 60)
        for task in (queued, under_way):
            task.cancel()
        go_on.set()
    assert await held(netbox) == ["2001:db8:1::/56"]  # closing waits for it


async def test_a_look_up_by_a_field_that_netbox_does_not_know(standin: NetBoxServer, people: Peer) -> None:
    """It shows everything then."""
    people.create(PREFIXES, prefix="2001:db8::/56")
    async with NetBox(standin.url, standin.token) as client:
        failure = await failing(client.find("k"), standin.token)
    assert type(failure) is NetBoxNotReadyError
    assert "lastmile netbox check" in str(failure)


async def test_a_look_up_never_takes_a_key_that_looks_alike(netbox: NetBox, parent: int, people: Peer) -> None:
    [field] = people.found("/api/extras/custom-fields/?name=lastmile_key")
    ten = await netbox.available(parent, 56, replace(STAMP, key="S-10"))
    people.send("PATCH", f"/api/extras/custom-fields/{field['id']}/", {"filter_logic": "loose"})
    with pytest.raises(NetBoxNotReadyError):
        await netbox.find("S-1")
    one = await netbox.available(parent, 56, replace(STAMP, key="S-1"))
    assert await netbox.find("S-1") == one
    assert await netbox.find("S-10") == ten


async def test_a_vrf(netbox: NetBox, people: Peer) -> None:
    vrf = int(people.create("/api/ipam/vrfs/", name="access")["id"])
    parent = int(people.create(PREFIXES, prefix=str(POOL), vrf=vrf)["id"])
    made = await netbox.available(parent, 56, STAMP)
    assert made.vrf_id == vrf
    assert await netbox.find(STAMP.key) == made
    other = await netbox.create(made.prefix, vrf_id=None, stamp=replace(STAMP, key="k2"))
    assert other.vrf_id is None


async def test_a_prefix_without_its_key_is_taken_back(
    standin: NetBoxServer, netbox: NetBox, parent: int, people: Peer
) -> None:
    async with NetBox(standin.url, standin.token) as second:
        for client in (netbox, second):
            await client.require()
        [field] = people.found("/api/extras/custom-fields/?name=lastmile_key")
        people.send("DELETE", f"/api/extras/custom-fields/{field['id']}/")
        with pytest.raises(NetBoxNotReadyError, match=r"check` says what is wrong$"):
            await netbox.available(parent, 56, STAMP)
        assert await held(netbox) == []
        with pytest.raises(NetBoxNotReadyError, match=r"custom field lastmile_key of prefixes .*: missing"):
            await netbox.available(parent, 56, STAMP)
        standin.faults.next(proxy(503, retry_after=60), method="DELETE")
        with pytest.raises(NetBoxNotReadyError, match=r"2001:db8::/56 \(#\d+\) is left there"):
            await second.available(parent, 56, STAMP)


async def test_what_people_added_stays(netbox: NetBox, parent: int, people: Peer) -> None:
    made = await netbox.available(parent, 56, STAMP)
    people.create("/api/extras/tags/", name="VIP", slug="vip")
    people.create("/api/extras/custom-fields/", name="note", type="text", object_types=["ipam.prefix"])
    change = {"tags": [{"slug": "vip"}], "custom_fields": {"note": "n"}, "description": "by hand"}
    people.send("PATCH", f"{PREFIXES}{made.id}/", change)
    await netbox.update(made.id, replace(STAMP, state=State.REVOKED))
    [shown] = people.found(f"{PREFIXES}?id={made.id}")
    assert ([tag["slug"] for tag in shown["tags"]], shown["description"]) == (["vip"], "by hand")
    assert shown["custom_fields"]["note"] == "n"
    assert (shown["status"]["value"], shown["custom_fields"]["lastmile_state"]) == ("deprecated", "revoked")


async def test_deleting_what_is_gone(netbox: NetBox, parent: int) -> None:
    made = await netbox.available(parent, 56, STAMP)
    await netbox.delete(made.id)
    await netbox.delete(made.id)
    assert await netbox.find(STAMP.key) is None


async def test_no_id_is_not_every_id(netbox: NetBox, parent: int) -> None:
    """To pynetbox a key of 0 is none, and a request without one is about all prefixes."""
    await netbox.available(parent, 56, STAMP)
    await netbox.delete(0)
    assert await netbox.get(0) is None
    assert await held(netbox) == ["2001:db8::/56"]


async def test_pages_miss_nobody_while_others_come_and_go(netbox: NetBox, parent: int, people: Peer) -> None:
    made = [await netbox.available(parent, 56, replace(STAMP, key=f"k{number}")) for number in range(5)]
    people.create(PREFIXES, prefix="2001:db9::/56")
    seen = []
    async for one in netbox.records(vrf_id=None, ours=True, page=2):
        seen.append(one)
        await netbox.delete(one.id)
    assert seen == made


async def test_only_what_changed(netbox: NetBox, parent: int) -> None:
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


async def test_no_log_has_the_token(
    log: pytest.LogCaptureFixture, standin: NetBoxServer, netbox: NetBox, parent: int
) -> None:
    standin.faults.next(LOST, method="POST")
    await failing(netbox.available(parent, 56, STAMP), standin.token)
    assert await netbox.find(STAMP.key)
    assert "cf_lastmile_key" in log.text
    assert standin.token not in log.text
    assert standin.token not in repr(vars(netbox))


async def test_requests_are_counted_and_timed(netbox: NetBox, standin: NetBoxServer) -> None:
    """Each that is sent, also where one is tried again, and each failure by its name."""
    await netbox.require()
    counted = Counted()
    standin.faults.next(proxy(503), method="GET", times=2)
    assert await netbox.get(4711) is None
    standin.faults.next(POSTGRES_DOWN, method="POST")
    with pytest.raises(NetBoxServerError):
        await netbox.create(POOL, vrf_id=None, stamp=STAMP)
    assert counted.since("lastmile_netbox_request_duration_seconds_count") == {("GET",): 3, ("POST",): 1}
    assert counted.since("lastmile_netbox_errors_total") == {
        ("NetBoxUnavailableError", "GET"): 2,
        ("NetBoxNotFoundError", "GET"): 1,
        ("NetBoxServerError", "POST"): 1,
    }
