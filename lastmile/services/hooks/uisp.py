"""The mapping of UISP (UCRM): its service events become orders.

UISP sends `{uuid, changeType, entity, entityId, eventName, extraData: {entity, entityBeforeEdit}}`, and no signature. A
service is a subscriber. Each change of a service sends `service.edit`, also beside the more specific event.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from lastmile.contract.line_states import LineState
from lastmile.services.hooks.mapping import Body, EventIdentity, Ignored, LineFacts, OrderDraft, UnmappableError
from lastmile.services.hooks.verification import SharedSecret

__all__ = ["Uisp"]

# What an ISP adapts to its own UISP.

SUBSCRIBER_REF = "uisp-{}"
"""The reference of a subscriber, with the id of its service."""
CUSTOMER_REF = "uisp-client-{}"
"""The reference of a customer, with the id of the client."""
CUSTOMER_NAME = "UISP client {}"
"""The name of a customer: an event of a service has only the id of the client."""
ATTRIBUTES = {
    "onuSerial": "onu_serial",
    "cpeMac": "cpe_mac",
    "olt": "olt",
    "ponPort": "pon_port",
    "sVlan": "s_vlan",
    "cVlan": "c_vlan",
    "circuitId": "circuit_id",
    "remoteId": "remote_id",
}
"""The keys of custom attributes of a service, with the field of the line that each of them has."""
REQUIRED = ("onu_serial",)
"""The fields without which no line is provisioned."""
LINE: Mapping[str, Any] = {"connection_type": "ftth"}
"""The fields that every line has."""
ADDRESSING: Mapping[str, Any] = {}
"""The addresses of a new line: fields of `lastmile.contract.addressing.Addressing`."""
SUSPENSION_MODE = "block"
"""`block`, `walled_garden` or `slow`."""

DEVICES = ("onu_serial", "cpe_mac")
PLACE = ("olt", "pon_port", "s_vlan", "c_vlan", "circuit_id", "remote_id")
VLANS = ("s_vlan", "c_vlan")
ADDED = {"service.add", "service.activate"}

PREPARED, ACTIVE, ENDED, SUSPENDED, PREPARED_BLOCKED, OBSOLETE, _DEFERRED, QUOTED = range(8)
"""The statuses of a service."""

_EVENT_ID = re.compile(r"[0-9A-Fa-f-]{32,36}")
_EVENT_NAME = re.compile(r"[a-z0-9_.]{1,64}")


class Uisp:
    """The mapping of UISP."""

    name = "uisp"
    verification = SharedSecret()

    def identify(self, body: Body) -> EventIdentity:
        event_id, name = body.get("uuid"), body.get("eventName") or body.get("changeType")
        service = body.get("entityId") if body.get("entity") == "service" else None
        client = _service(body).get("clientId")
        return EventIdentity(
            event_id if isinstance(event_id, str) and _EVENT_ID.fullmatch(event_id) else None,
            name if isinstance(name, str) and _EVENT_NAME.fullmatch(name) else "unknown",
            SUBSCRIBER_REF.format(service) if _is_id(service) else None,
            CUSTOMER_REF.format(client) if _is_id(client) else None,
        )

    def to_orders(self, body: Body, line: LineFacts) -> Sequence[OrderDraft] | Ignored:
        identity = self.identify(body)
        if (map_event := _EVENTS.get(identity.name)) is None:
            return Ignored(f"{identity.name} is no event that changes a service.")
        if identity.event_id is None:
            raise UnmappableError("The event has no uuid, so that a repeat could not be recognised. UISP sends one.")
        if identity.subscriber_ref is None or not (service := _service(body)):
            raise UnmappableError("The event names no service: entityId or extraData.entity is missing.")
        if service.get("servicePlanType", "Internet") != "Internet":
            return Ignored("The service plan is not of type Internet.")
        outcome = map_event(body, service, line)
        if isinstance(outcome, Ignored):
            return outcome
        return [{"subscriber_ref": identity.subscriber_ref, **draft} for draft in outcome]


_Outcome = Sequence[OrderDraft] | Ignored


def _add(body: Body, service: Body, line: LineFacts) -> _Outcome:
    if line.state is not None:
        return Ignored("The subscriber has a line already.")
    return _provision(service)


def _provision(service: Body) -> _Outcome:
    status = service.get("status")
    if status == QUOTED:
        return Ignored("The service is a quote: UISP sends service.activate when the client accepts it.")
    if status in (ENDED, OBSOLETE):
        return Ignored("The service has ended.")
    if status not in (PREPARED, ACTIVE, SUSPENDED, PREPARED_BLOCKED):
        raise UnmappableError(f"The service has status {status!r}, from which no line can be provisioned.")
    if not _is_id(client := service.get("clientId")):
        raise UnmappableError("The service names no client: clientId is missing.")
    fields = _line_fields(service)
    if missing := [_key(field) for field in REQUIRED if field not in fields]:
        raise UnmappableError(
            f"The service lacks the custom attribute {', '.join(missing)}. Set it in UISP: the event of that edit then "
            "provisions the line."
        )
    draft: OrderDraft = {
        "operation": "provision",
        "customer": {"ref": CUSTOMER_REF.format(client), "name": CUSTOMER_NAME.format(client)},
        "plan": _plan(service),
        "line": {**LINE, **fields},
        "addressing": dict(ADDRESSING),
    }
    if status in (PREPARED, PREPARED_BLOCKED) and (begin := _later(service.get("activeFrom"))):
        draft["not_before"] = begin
    return [draft]


def _edit(body: Body, service: Body, line: LineFacts) -> _Outcome:
    if line.state is None:
        if line.kept & ADDED:  # the edit supplies what the kept event lacked
            return _provision(service)
        return Ignored("The subscriber has no line.")
    if not (before := _service(body, "entityBeforeEdit")):
        raise UnmappableError(
            "The event does not say what the service was before: extraData.entityBeforeEdit is missing."
        )
    drafts: list[OrderDraft] = []
    old, new = _line_fields(before), _line_fields(service)
    if removed := [_key(field) for field in old if field not in new]:
        raise UnmappableError(
            f"The edit removes the custom attribute {', '.join(removed)}, and no order can. Set it in UISP."
        )
    changed = {field: value for field, value in new.items() if old.get(field) != value}
    if place := {field: value for field, value in changed.items() if field in PLACE}:
        drafts.append({"operation": "relocate", **place})
    if devices := {field: value for field, value in changed.items() if field in DEVICES}:
        drafts.append({"operation": "replace_device", **devices})
    if _sold(before) != _sold(service):
        drafts.append({"operation": "change_plan", "plan": _plan(service)})
    return drafts or Ignored("The edit changes nothing that a line has.")


def _suspend(body: Body, service: Body, line: LineFacts) -> _Outcome:
    if service.get("status") == ACTIVE and _service(body, "entityBeforeEdit").get("status") == SUSPENDED:
        return _resume(body, service, line)  # UISP sends service.suspend also where it ends a suspension
    _require_line(line)
    if line.state is LineState.SUSPENDED:
        return Ignored("The line is suspended already.")
    return [{"operation": "suspend", "mode": SUSPENSION_MODE, "reason": "suspended in UISP"}]


def _resume(body: Body, service: Body, line: LineFacts) -> _Outcome:
    _require_line(line)
    if line.state is not LineState.SUSPENDED:
        return Ignored("The line is not suspended.")
    return [{"operation": "resume"}]


def _end(body: Body, service: Body, line: LineFacts) -> _Outcome:
    if line.state is None:
        return Ignored("The subscriber has no line.")
    return [{"operation": "deprovision", "reason": "ended in UISP"}]


_EVENTS: Mapping[str, Callable[[Body, Body, LineFacts], _Outcome]] = {
    "service.add": _add,
    "service.activate": _add,
    "service.edit": _edit,
    "service.suspend": _suspend,
    "service.suspend_cancel": _resume,
    "service.postpone": _resume,
    "service.end": _end,
    "service.archive": _end,
}


def _require_line(line: LineFacts) -> None:
    if line.state is None:
        raise UnmappableError("The subscriber has no line. Provision the line, and retry the event.")


def _service(body: Body, part: str = "entity") -> Body:
    extra = body.get("extraData")
    found = extra.get(part) if isinstance(extra, dict) else None
    return found if isinstance(found, dict) else {}


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 < value < 10**12


def _line_fields(service: Body) -> dict[str, Any]:
    """Return the fields of the line that the custom attributes have. An empty attribute counts as missing."""
    fields: dict[str, Any] = {}
    attributes = service.get("attributes")
    for attribute in attributes if isinstance(attributes, list) else []:
        key, value = (attribute.get("key"), attribute.get("value")) if isinstance(attribute, dict) else (None, None)
        field = ATTRIBUTES.get(key) if isinstance(key, str) else None
        if field is not None and value not in (None, ""):
            fields[field] = _number(value) if field in VLANS else value
    return fields


def _number(value: Any) -> Any:
    """Return the number that an attribute has as text. Anything else is left to the validation of the order."""
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value


def _key(field: str) -> str:
    return next(key for key, other in ATTRIBUTES.items() if other == field)


def _sold(service: Body) -> tuple[Any, ...]:
    return tuple(service.get(field) for field in ("servicePlanId", "servicePlanName", "downloadSpeed", "uploadSpeed"))


def _plan(service: Body) -> dict[str, Any]:
    """Return the plan: its name as Lastmile writes names, and the speeds, which UISP has in Mbit/s."""
    title = service.get("servicePlanName")
    ascii_only = unicodedata.normalize("NFKD", title if isinstance(title, str) else "").encode("ascii", "ignore")
    name = re.sub("[^A-Za-z0-9]+", "-", ascii_only.decode()).strip("-")[:64].rstrip("-")
    if not name:
        raise UnmappableError(
            "The service plan has no name with letters or digits. Rename it in UISP, and save the service."
        )
    plan: dict[str, Any] = {"name": name}
    for field, speed in (("download_kbps", "downloadSpeed"), ("upload_kbps", "uploadSpeed")):
        value = service.get(speed)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**7:
            raise UnmappableError(
                f"The service plan {name} has no {speed}. Set the speeds of the plan in UISP, and save the service."
            )
        plan[field] = round(value * 1000)
    if _is_id(plan_id := service.get("servicePlanId")):
        plan["price_ref"] = f"uisp-plan-{plan_id}"
    return plan


def _later(moment: Any) -> str | None:
    """Return the moment where it is in the future."""
    try:
        return moment if datetime.fromisoformat(moment) > datetime.now().astimezone() else None
    except (TypeError, ValueError):
        return None
