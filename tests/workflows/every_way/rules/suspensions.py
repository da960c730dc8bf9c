"""The rules of the operations that suspend and resume a line."""

from tests.workflows.every_way.rules.rule import LINE, PREVIOUS, VERIFY, Flow, Rule, Undo, facts_of

__all__ = ["RESUME", "SUSPEND"]

_SUSPENDED = facts_of("suspended: walled_garden, prefix suspended, group suspended, billing suspended")

SUSPEND = Flow(
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
)

RESUME = Flow(
    LINE - facts_of("prefix active, group, billing active") | _SUSPENDED,
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
)
