"""Refusals by NetBox: the error type and the message of each."""

from collections.abc import Awaitable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from ipam.netbox import NetBox
from ipam.netbox.errors import (
    NetBoxAuthorizationError,
    NetBoxError,
    NetBoxExhaustedError,
    NetBoxInvalidError,
    NetBoxNotFoundError,
    NetBoxNotReadyError,
    NetBoxServerError,
    NetBoxTenantMissingError,
)
from ipam.netbox.requirements import check, set_up
from lastmile.devstack.netbox import NetBoxServer
from lastmile.devstack.netbox.http.faults import (
    Fault,
)
from lastmile.devstack.netbox.http.http_errors import HttpError
from lastmile.devstack.netbox.model.versions import Version
from lastmile.errors import NonRetryableError, OutageError
from tests.netbox.versions import each_version
from tests.support.netbox_calls import JSON, PREFIXES, STAMP, failing, prefixes_below
from tests.support.netbox_peer import Peer
from tests.support.other_servers import answering


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
    assert await prefixes_below(netbox) == ["2001:db8::/56"]


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
    assert await prefixes_below(netbox) == []


async def test_server_error_contains_the_message_of_netbox() -> None:
    body = '{"error": "the connection is closed", "exception": "OperationalError", "netbox_version": "4.4.10"}'
    async with answering(f"500 Internal Server Error\r\n{JSON}", body) as url, NetBox(url, "t" * 40) as client:
        failure = await failing(client.find("k"), "t" * 40)
    assert type(failure) is NetBoxServerError
    assert "(500: OperationalError; the connection is closed)" in str(failure)
