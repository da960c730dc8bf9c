"""The mapping of UISP: each event, as UISP sends it, becomes the right order or needs none."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lastmile.contract.line_states import LineState
from lastmile.services.hooks.mapping import EventIdentity, Ignored, LineFacts, UnmappableError
from lastmile.services.hooks.uisp import Uisp

EVENTS = sorted(path.stem for path in (Path(__file__).parent / "uisp").glob("*.json"))
NONE, IN_SERVICE, SUSPENDED = None, LineState.IN_SERVICE, LineState.SUSPENDED


def sent(event: str, **changes: Any) -> dict[str, Any]:
    """Return the event as UISP sends it; `changes` are fields of the service."""
    body: dict[str, Any] = json.loads((Path(__file__).parent / "uisp" / f"{event}.json").read_text())
    body["extraData"]["entity"] |= changes
    return body


def ordered(body: dict[str, Any], state: LineState | None, *kept: str) -> list[Any]:
    """Return the orders of the event: each without the subscriber."""
    outcome = Uisp().to_orders(body, LineFacts(state, frozenset(kept)))
    assert not isinstance(outcome, Ignored), outcome
    assert {draft["subscriber_ref"] for draft in outcome} == {"uisp-41"}
    return [{name: value for name, value in draft.items() if name != "subscriber_ref"} for draft in outcome]


def ignored(body: dict[str, Any], state: LineState | None, *kept: str) -> str:
    outcome = Uisp().to_orders(body, LineFacts(state, frozenset(kept)))
    assert isinstance(outcome, Ignored), outcome
    return outcome.reason


def refused(body: dict[str, Any], state: LineState | None) -> str:
    with pytest.raises(UnmappableError) as refusal:
        Uisp().to_orders(body, LineFacts(state))
    return str(refusal.value)


PROVISION = {
    "operation": "provision",
    "customer": {"ref": "uisp-client-285", "name": "UISP client 285"},
    "plan": {"name": "Fibra-15-Megas-Basico", "download_kbps": 15000, "upload_kbps": 5000, "price_ref": "uisp-plan-9"},
    "line": {
        "connection_type": "ftth",
        "onu_serial": "HWTC1A2B3C4D",
        "olt": "olt-1",
        "pon_port": "0/1/3",
        "s_vlan": 100,
    },
    "addressing": {},
}
FASTER = {"name": "Fibra-100-Megas", "download_kbps": 100000, "upload_kbps": 50000, "price_ref": "uisp-plan-10"}
SUSPEND = {"operation": "suspend", "mode": "block", "reason": "suspended in UISP"}
RESUME = {"operation": "resume"}
DEPROVISION = {"operation": "deprovision", "reason": "ended in UISP"}
OUTCOMES = {
    ("service.add", NONE): PROVISION,
    ("service.add", IN_SERVICE): "has a line already",
    ("service.activate", NONE): PROVISION,
    ("service.activate", SUSPENDED): "has a line already",
    ("service.edit", NONE): "has no line",
    ("service.edit", IN_SERVICE): {"operation": "change_plan", "plan": FASTER},
    ("service.suspend", IN_SERVICE): SUSPEND,
    ("service.suspend", SUSPENDED): "is suspended already",
    ("service.suspend_cancel", SUSPENDED): RESUME,
    ("service.suspend_cancel", IN_SERVICE): "is not suspended",
    ("service.postpone", SUSPENDED): RESUME,
    ("service.postpone", IN_SERVICE): "is not suspended",
    ("service.end", IN_SERVICE): DEPROVISION,
    ("service.end", SUSPENDED): DEPROVISION,
    ("service.end", NONE): "has no line",
    ("service.archive", IN_SERVICE): DEPROVISION,
    ("service.archive", NONE): "has no line",
}
"""The order, or a part of the reason why none is needed, by event and state of the line."""


def test_outcomes_cover_all_eight_service_events() -> None:
    assert sorted({event for event, _ in OUTCOMES}) == EVENTS
    assert len(EVENTS) == 8


@pytest.mark.parametrize(("event", "state"), OUTCOMES)
def test_event_becomes_its_order_or_needs_none(event: str, state: LineState | None) -> None:
    expected = OUTCOMES[event, state]
    if isinstance(expected, str):
        assert expected in ignored(sent(event), state)
    else:
        assert ordered(sent(event), state) == [expected]


@pytest.mark.parametrize("event", EVENTS)
def test_event_is_identified_by_its_uuid_and_its_service(event: str) -> None:
    uuid = sent(event)["uuid"]
    assert Uisp().identify(sent(event)) == EventIdentity(uuid, event, "uisp-41", "uisp-client-285")


@pytest.mark.parametrize("body", [{}, {"uuid": 7, "eventName": [], "entity": "service", "entityId": True}])
def test_body_without_sense_is_identified_as_unknown(body: dict[str, Any]) -> None:
    assert Uisp().identify(body) == EventIdentity(None, "unknown")
    assert "unknown" in ignored(body, NONE)


def test_events_of_clients_and_tests_of_an_endpoint_need_no_order() -> None:
    assert "client.edit" in ignored(sent("service.edit") | {"eventName": "client.edit", "entity": "client"}, NONE)
    assert "test" in ignored({"uuid": None, "changeType": "test", "entity": "webhook", "eventName": "test"}, NONE)
    assert "Internet" in ignored(sent("service.add", servicePlanType="General"), NONE)


def test_service_that_begins_later_is_provisioned_on_that_day() -> None:
    day = (datetime.now(UTC) + timedelta(days=3)).strftime("%Y-%m-%dT00:00:00+0000")
    (order,) = ordered(sent("service.add", status=0, activeFrom=day), NONE)
    assert order == PROVISION | {"not_before": day}
    assert ordered(sent("service.add", status=0), NONE) == [PROVISION], "its day has come"


@pytest.mark.parametrize(("status", "words"), [(7, "is a quote"), (2, "has ended"), (5, "has ended")])
def test_quoted_or_ended_service_is_not_provisioned(status: int, words: str) -> None:
    assert words in ignored(sent("service.add", status=status), NONE)


def test_edit_of_several_things_becomes_an_order_for_each() -> None:
    body = sent("service.edit")
    attributes = {attribute["key"]: attribute for attribute in body["extraData"]["entity"]["attributes"]}
    attributes["onuSerial"]["value"] = "HWTC00000009"
    attributes["ponPort"]["value"] = "0/1/4"
    assert ordered(body, IN_SERVICE) == [
        {"operation": "relocate", "pon_port": "0/1/4"},
        {"operation": "replace_device", "onu_serial": "HWTC00000009"},
        {"operation": "change_plan", "plan": FASTER},
    ]


def test_edit_beside_a_suspension_changes_nothing() -> None:
    """UISP sends service.edit beside each more specific event."""
    assert "changes nothing" in ignored(sent("service.suspend") | {"eventName": "service.edit"}, IN_SERVICE)


def test_edit_supplies_what_a_kept_event_lacked() -> None:
    (order,) = ordered(sent("service.edit"), NONE, "service.add")
    assert order == PROVISION | {"plan": FASTER}


def test_suspend_event_that_ends_a_suspension_resumes_the_line() -> None:
    assert ordered(sent("service.suspend_cancel") | {"eventName": "service.suspend"}, SUSPENDED) == [RESUME]


@pytest.mark.parametrize(
    ("event", "state", "changes", "words"),
    [
        ("service.add", NONE, {"attributes": []}, "lacks the custom attribute onuSerial. Set it in UISP"),
        (
            "service.add",
            NONE,
            {"downloadSpeed": None},
            "plan Fibra-15-Megas-Basico has no downloadSpeed. Set the speeds",
        ),
        ("service.add", NONE, {"servicePlanName": "—"}, "has no name with letters or digits. Rename it"),
        ("service.add", NONE, {"status": 6}, "status 6"),
        ("service.add", NONE, {"clientId": None}, "clientId is missing"),
        ("service.edit", IN_SERVICE, {"attributes": None}, "removes the custom attribute onuSerial"),
        ("service.suspend", NONE, {}, "has no line. Provision the line, and retry the event"),
        ("service.suspend_cancel", NONE, {}, "has no line. Provision the line, and retry the event"),
    ],
)
def test_event_that_lacks_something_says_what_to_do(
    event: str, state: LineState | None, changes: dict[str, Any], words: str
) -> None:
    assert words in refused(sent(event, **changes), state)


def test_event_without_uuid_service_or_earlier_values_is_not_mapped() -> None:
    assert "no uuid" in refused(sent("service.end") | {"uuid": "x"}, IN_SERVICE)
    assert "names no service" in refused(sent("service.end") | {"entityId": "41"}, IN_SERVICE)
    body = sent("service.edit")
    body["extraData"]["entityBeforeEdit"] = None
    assert "entityBeforeEdit is missing" in refused(body, IN_SERVICE)
