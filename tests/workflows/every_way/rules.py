"""The effects of each step and of its undo, written down for the tests, independent of the tested code.

The state of a subscriber is a set of facts, such as "customer" or "prefix active".
"""

from dataclasses import dataclass

__all__ = [
    "CLOSE",
    "LINE",
    "NOTHING",
    "OPEN",
    "OPERATIONS",
    "PREVIOUS",
    "VERIFY",
    "Facts",
    "Flow",
    "Rule",
    "Undo",
    "findings",
]

Facts = frozenset[str]
PREVIOUS = "previous values of"
"""The beginning of the facts that a completed order forgets."""
VERIFY = "verify_line"
OPEN, CLOSE = "open_order", "finish_order"


@dataclass(frozen=True)
class Undo:
    """What takes a step back."""

    activity: str
    goes: str = ""
    """Facts that are gone after it, separated by commas; default: those that the step brought."""
    comes: str = ""
    stuck_on: str = ""
    """It cannot be while one of these facts is there: the row is still in use."""
    spares_if: str = ""
    """It changes nothing while this fact is there."""


@dataclass(frozen=True)
class Rule:
    """A step: which facts come and go by it, and how it is taken back."""

    name: str
    comes: str = ""
    goes: str = ""
    undo: Undo | None = None
    says: str = "done"
    best_effort: bool = False
    stuck_on: str = ""
    idle_on: str = ""
    """It is skipped while one of these facts is there."""

    def idles(self, facts: Facts) -> bool:
        return bool(facts & _set(self.idle_on))

    def after(self, facts: Facts) -> Facts:
        if self.idles(facts):
            return facts
        return facts - _set(self.goes) | _set(self.comes)

    def undone(self, facts: Facts) -> Facts:
        if self.undo is None or self.undo.spares_if in facts:
            return facts
        happened = not self.comes or facts & _set(self.comes)
        return facts - _set(self.undo.goes or self.comes) | (_set(self.undo.comes) if happened else NOTHING)

    def can(self, facts: Facts) -> bool:
        return self.idles(facts) or not facts & _set(self.stuck_on)

    def can_undo(self, facts: Facts) -> bool:
        return self.undo is not None and not facts & _set(self.undo.stuck_on)


def _set(words: str) -> Facts:
    return frozenset(words.split(", ") if words else ())


NOTHING: Facts = frozenset()
LINE = _set(
    "customer, subscriber, network profile, account, group, slot, prefix active, reply item, "
    "onu in service, cpe in service, billing active"
)
_SUSPENDED = _set("suspended: walled_garden, prefix suspended, group suspended, billing suspended")


@dataclass(frozen=True)
class Flow:
    """An operation: what it starts from, its steps, and the first step that there is no way back from.

    Without such a step, the order can be taken back until its last step, or until the closing if they are apart.
    """

    begins_with: Facts
    steps: tuple[Rule, ...]
    pivot: str = ""
    joins_closing: bool = True
    """The last step shares its transaction with the closing: it is only in the database."""
    after: tuple[str, ...] = ()
    """The orders that have made the line what the operation starts from."""

    @property
    def activities(self) -> list[str]:
        return [OPEN, *(step.name for step in self.steps), *([CLOSE] if self.joins_closing else [])]

    @property
    def ends_with_closing(self) -> bool:
        """The last step that can be taken back is done with the closing, too late for a cancel."""
        return self.joins_closing and not self.pivot

    @property
    def before_pivot(self) -> tuple[Rule, ...]:
        names = [step.name for step in self.steps]
        return self.steps[: names.index(self.pivot)] if self.pivot else self.steps

    @property
    def last(self) -> str:
        """The step that shares its transaction with the closing."""
        return self.steps[-1].name

    def is_forward_only(self, activity: str) -> bool:
        return bool(self.pivot) and self.activities.index(activity) >= self.activities.index(self.pivot)


_CHANGE_LINE = Rule(
    "change_line",
    f"network profile changed, {PREVIOUS} change_line",
    goes="network profile",
    undo=Undo("restore_line", comes="network profile"),
)
_UPDATE_ACCOUNT = Rule("update_account", f"{PREVIOUS} update_account", undo=Undo("restore_account"))

OPERATIONS = {
    "provision": Flow(
        NOTHING,
        (
            Rule("create_customer", "customer", undo=Undo("delete_customer", spares_if="subscriber")),
            Rule(
                "create_subscriber",
                "subscriber",
                undo=Undo("delete_subscriber", stuck_on="network profile, billing active"),
            ),
            Rule("create_network_profile", "network profile", undo=Undo("delete_network_profile")),
            Rule(
                "create_radius_account",
                "account, group",
                undo=Undo("delete_radius_account", goes="account, group, account blocked, reply item"),
            ),
            Rule(
                "allocate_ip_address",
                "prefix allocated, slot",
                undo=Undo(
                    "release_ip_address", goes="prefix allocated, prefix revoked, slot", stuck_on="prefix active"
                ),
            ),
            Rule(
                "activate_ipv6_lifecycle",
                "prefix active, reply item",
                goes="prefix allocated",
                undo=Undo("revoke_ipv6_lifecycle", comes="prefix revoked, account blocked"),
                best_effort=True,
            ),
            Rule("activate_onu", "onu in service", undo=Undo("deactivate_onu"), says="skipped"),
            Rule("configure_cpe", "cpe in service", undo=Undo("unconfigure_cpe"), says="skipped"),
            Rule("create_billing_service", "billing active", undo=Undo("delete_billing_service")),
        ),
    ),
    "deprovision": Flow(
        LINE,
        (
            Rule("verify_subscriber"),
            Rule(
                "suspend_billing_service",
                "billing suspended",
                goes="billing active",
                undo=Undo("resume_billing_service", comes="billing active"),
            ),
            Rule(
                "deactivate_onu",
                "onu out of service",
                goes="onu in service",
                undo=Undo("activate_onu", comes="onu in service"),
                says="skipped",
            ),
            Rule(
                "unconfigure_cpe",
                "cpe out of service",
                goes="cpe in service",
                undo=Undo("configure_cpe", comes="cpe in service"),
                says="skipped",
            ),
            Rule("revoke_ipv6_lifecycle", "prefix revoked, account blocked", goes="prefix active, reply item"),
            Rule("release_ip_address", goes="prefix revoked, slot", stuck_on="prefix active"),
            Rule("delete_radius_account", goes="account, group, account blocked, reply item"),
            Rule("delete_network_profile", goes="network profile"),
            Rule(
                "archive_subscriber",
                "subscriber archived, billing ended",
                goes="subscriber, billing active, billing suspended",
            ),
        ),
        pivot="revoke_ipv6_lifecycle",
        after=("provision",),
    ),
    "renumber": Flow(
        LINE,
        (
            Rule("verify_line"),
            Rule(
                "begin_replacement",
                "replaced prefix active, replaced slot",
                goes="prefix active, slot",
                undo=Undo("cancel_replacement", comes="prefix active, slot", spares_if="prefix allocated"),
            ),
            Rule(
                "allocate_replacement",
                "prefix allocated, slot",
                undo=Undo("release_ip_address", goes="prefix allocated, prefix revoked, slot"),
            ),
            Rule("switch_addresses", "prefix active", goes="prefix allocated"),
            Rule(
                "revoke_replaced_addresses",
                "replaced prefix revoked",
                goes="replaced prefix active",
                idle_on="prefix allocated",
            ),
            Rule(
                "release_replaced_addresses",
                goes="replaced prefix revoked, replaced slot",
                stuck_on="replaced prefix active",
                idle_on="prefix allocated",
            ),
        ),
        pivot="switch_addresses",
        joins_closing=False,
        after=("provision",),
    ),
    "change_addressing": Flow(
        LINE,
        (
            Rule("verify_line"),
            Rule(
                "begin_replacement",
                "replaced prefix active, replaced slot",
                goes="prefix active, slot",
                undo=Undo("cancel_replacement", comes="prefix active, slot"),
            ),
            Rule("allocate_ip_address", undo=Undo("release_ip_address"), says="skipped"),
            Rule("switch_addresses", goes="reply item"),
            Rule(
                "revoke_replaced_addresses",
                "replaced prefix revoked",
                goes="replaced prefix active",
                idle_on="reply item",
            ),
            Rule(
                "release_replaced_addresses",
                goes="replaced prefix revoked, replaced slot",
                stuck_on="replaced prefix active",
                idle_on="reply item",
            ),
        ),
        pivot="switch_addresses",
        joins_closing=False,
        after=("provision",),
    ),
    "update_customer": Flow(
        LINE,
        (
            Rule(VERIFY),
            Rule(
                "update_customer",
                f"customer corrected, {PREVIOUS} update_customer",
                goes="customer",
                undo=Undo("restore_customer", comes="customer"),
            ),
        ),
        after=("provision",),
    ),
    "rotate_credentials": Flow(
        LINE,
        (
            Rule(VERIFY),
            Rule("replace_password", f"{PREVIOUS} replace_password", undo=Undo("restore_password")),
        ),
        after=("provision",),
    ),
    "replace_device": Flow(
        LINE,
        (
            Rule(VERIFY),
            _CHANGE_LINE,
            Rule(
                "change_onu",
                f"onu replaced, {PREVIOUS} change_onu",
                goes="onu in service",
                undo=Undo("restore_onu", comes="onu in service"),
                says="skipped",
            ),
            Rule(
                "change_cpe",
                f"cpe replaced, {PREVIOUS} change_cpe",
                goes="cpe in service",
                undo=Undo("restore_cpe", comes="cpe in service"),
                says="skipped",
            ),
            _UPDATE_ACCOUNT,
        ),
        joins_closing=False,
        after=("provision",),
    ),
    "relocate": Flow(
        LINE,
        (
            Rule(VERIFY),
            _CHANGE_LINE,
            Rule("change_onu", f"{PREVIOUS} change_onu", undo=Undo("restore_onu"), says="skipped"),
            Rule("change_cpe", f"{PREVIOUS} change_cpe", undo=Undo("restore_cpe"), says="skipped"),
            _UPDATE_ACCOUNT,
        ),
        joins_closing=False,
        after=("provision",),
    ),
    "change_plan": Flow(
        LINE,
        (
            Rule(VERIFY),
            Rule(
                "change_radius_plan",
                f"group of the new plan, {PREVIOUS} change_radius_plan",
                goes="group",
                undo=Undo("restore_radius_plan", comes="group"),
            ),
            Rule(
                "change_onu_speed",
                undo=Undo("restore_onu_speed"),
                says="skipped",
            ),
            Rule(
                "change_billing_plan",
                f"billing active for the new plan, {PREVIOUS} change_billing_plan",
                goes="billing active",
                undo=Undo("restore_billing_plan", comes="billing active"),
            ),
        ),
        after=("provision",),
    ),
    "transfer": Flow(
        LINE,
        (
            Rule(VERIFY),
            Rule("create_customer", "new customer", undo=Undo("delete_customer", spares_if="subscriber transferred")),
            Rule(
                "transfer_line",
                f"subscriber transferred, {PREVIOUS} transfer_line",
                goes="subscriber",
                undo=Undo("return_line", comes="subscriber"),
            ),
        ),
        after=("provision",),
    ),
    "suspend": Flow(
        LINE,
        (
            Rule(VERIFY),
            Rule("record_suspension", "suspended: walled_garden", undo=Undo("delete_suspension")),
            Rule(
                "suspend_addresses",
                f"prefix suspended, {PREVIOUS} suspend_addresses",
                goes="prefix active",
                undo=Undo("resume_addresses", comes="prefix active"),
            ),
            Rule(
                "suspend_radius_account",
                f"group suspended, {PREVIOUS} suspend_radius_account",
                goes="group",
                undo=Undo("resume_radius_account", comes="group"),
            ),
            Rule(
                "suspend_billing_service",
                "billing suspended",
                goes="billing active",
                undo=Undo("resume_billing_service", comes="billing active"),
            ),
        ),
        after=("provision",),
    ),
    "resume": Flow(
        LINE - _set("prefix active, group, billing active") | _SUSPENDED,
        (
            Rule(VERIFY),
            Rule(
                "end_suspension",
                goes="suspended: walled_garden",
                undo=Undo("reopen_suspension", comes="suspended: walled_garden"),
            ),
            Rule(
                "resume_addresses",
                f"prefix active, {PREVIOUS} resume_addresses",
                goes="prefix suspended",
                undo=Undo("suspend_addresses", comes="prefix suspended"),
            ),
            Rule(
                "resume_radius_account",
                f"group, {PREVIOUS} resume_radius_account",
                goes="group suspended",
                undo=Undo("suspend_radius_account", comes="group suspended"),
            ),
            Rule(
                "resume_billing_service",
                f"billing active, {PREVIOUS} resume_billing_service",
                goes="billing suspended",
                undo=Undo("suspend_billing_service", comes="billing suspended"),
            ),
        ),
        after=("provision", "suspend"),
    ),
}

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
_NOT_DOWN = {"subscriber", "network profile", "account", "prefix active", "prefix revoked"}


def findings(operation: str, order: str, facts: Facts) -> dict[str, int]:
    """What the audit has to say, and how often: of an order with this end in its row, and these facts left."""
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
        "not_in_radius": "prefix active" in facts and "reply item" not in facts,
        "not_active": ended and "prefix allocated" in facts,
        "not_released": order not in ("running", "rolling_back")
        and len(facts & {"prefix revoked", "replaced prefix revoked"}),
        "endless_overlap": order not in ("running", "rolling_back")
        and len(facts & {"replaced prefix active", "replaced prefix revoked"}),
        "blocked_in_service": provisioned and "account blocked" in facts,
        "billed_without_line": order not in ("running", "rolling_back") and "billing active" in facts and out,
        "left_behind": len(facts & made) if taken_back else 0,
        "left_suspended": len(facts & _PUT_OUT) if operation == "deprovision" and taken_back else 0,
        "not_terminated": operation == "deprovision" and ended and order != "abandoned" and bool(facts & _NOT_DOWN),
        "terminated_order": order == "abandoned",
        "half_suspended": bool(facts & _against(operation, facts)) if ended or taken_back else 0,
        "half_changed": sum(fact.startswith(PREVIOUS) for fact in facts) if ended or taken_back else 0,
    }
    return {name: int(times) for name, times in found.items() if times}


def _against(operation: str, facts: Facts) -> Facts:
    """Return the facts that do not agree with the suspension of the line, or with its being in service."""
    if any(fact.startswith("suspended: ") for fact in facts):
        return _set("prefix active, group, billing active")
    return _set("prefix suspended, group suspended" + ("" if operation == "deprovision" else ", billing suspended"))
