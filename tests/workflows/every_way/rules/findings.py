"""What the audit must find, by the facts that an order has left."""

from tests.workflows.every_way.rules.rule import NOTHING, PREVIOUS, Facts, facts_of

__all__ = ["findings"]

_MADE_ROWS = {
    "customer", "subscriber", "network profile", "account", "onu in service", "cpe in service", "billing active",
    "prefix allocated", "prefix active", "prefix revoked",
}  # fmt: skip
_MADE_BY = {
    "provision": _MADE_ROWS,
    "renumber": {"prefix allocated", "prefix revoked"},
    "transfer": {"new customer"},
    "suspend": {"suspended: walled_garden"},
}
_PUT_OUT = {"billing suspended", "onu out of service", "cpe out of service"}
_NOT_DOWN = {"subscriber", "network profile", "account", "prefix active", "prefix suspended", "prefix revoked"}


def findings(operation: str, order: str, facts: Facts, before: Facts) -> dict[str, int]:
    """What the audit has to say, and how often: of an order with this end in its row, and these facts left.

    `before`: the facts from which the order began.
    """
    ended = order in ("completed", "degraded", "abandoned")
    taken_back = order in ("rolled_back", "partly_rolled_back")
    settled = order in ("completed", "degraded") or (operation != "provision" and taken_back)
    provisioned = settled and (operation != "deprovision" or taken_back)
    out = "account" not in facts or "account blocked" in facts
    other = [("network profile changed" in facts) != (f"{kind} replaced" in facts) for kind in ("onu", "cpe")]
    made = _MADE_BY.get(operation, NOTHING)
    if "subscriber transferred" in facts:  # the customer belongs to the order that created the line
        made = NOTHING
    found = {
        "other_device": sum(other) if operation == "replace_device" and (ended or taken_back) else 0,
        "other_plan": (ended or taken_back)
        and any("group of the new plan" in fact for fact in facts)
        != any(fact.endswith("for the new plan") for fact in facts),
        "not_in_radius": bool(facts & {"prefix active", "prefix suspended"}) and "reply item" not in facts,
        "not_active": ended and "prefix allocated" in facts,
        "not_released": order not in ("running", "rolling_back")
        and len(facts & {"prefix revoked", "replaced prefix revoked"}),
        "endless_overlap": order not in ("running", "rolling_back")
        and sum(fact.startswith("replaced prefix ") for fact in facts),
        "blocked_in_service": provisioned and "account blocked" in facts,
        "billed_without_line": order not in ("running", "rolling_back") and "billing active" in facts and out,
        "left_behind": len(facts & made) if taken_back else 0,
        "left_suspended": len((facts & _PUT_OUT) - before) if operation == "deprovision" and taken_back else 0,
        "not_terminated": operation == "deprovision" and ended and order != "abandoned" and bool(facts & _NOT_DOWN),
        "terminated_order": order == "abandoned",
        "half_suspended": bool(facts & _against(operation, facts)) if ended or taken_back else 0,
        "half_changed": sum(fact.startswith(PREVIOUS) for fact in facts) if ended or taken_back else 0,
    }
    return {name: int(times) for name, times in found.items() if times}


def _against(operation: str, facts: Facts) -> Facts:
    """Return the facts that do not agree with the suspension of the line, or with its being in service."""
    if any(fact.startswith("suspended: ") for fact in facts):
        return facts_of("prefix active, group, billing active")
    return facts_of("prefix suspended, group suspended" + ("" if operation == "deprovision" else ", billing suspended"))
