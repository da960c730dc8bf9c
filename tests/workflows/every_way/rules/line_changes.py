"""The rules of the operations that change the records, devices and account of a line."""

from tests.workflows.every_way.rules.rule import LINE, PREVIOUS, VERIFY, Flow, Rule, Undo

__all__ = ["CHANGE_PLAN", "RELOCATE", "REPLACE_DEVICE", "ROTATE_CREDENTIALS", "TRANSFER", "UPDATE_CUSTOMER"]

_CHANGE_LINE = Rule(
    "change_line",
    f"network profile changed, {PREVIOUS} change_line",
    goes="network profile",
    undo=Undo("restore_line", comes="network profile"),
)
# The undos of the devices restore the profile first: its constraints refuse a place that another line has got.
_UPDATE_ACCOUNT = Rule("update_account", f"{PREVIOUS} update_account", undo=Undo("restore_account"))

UPDATE_CUSTOMER = Flow(
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
)

ROTATE_CREDENTIALS = Flow(
    LINE,
    (
        Rule(VERIFY),
        Rule("replace_password", f"{PREVIOUS} replace_password", undo=Undo("restore_password")),
    ),
    after=("provision",),
)

REPLACE_DEVICE = Flow(
    LINE,
    (
        Rule(VERIFY),
        _CHANGE_LINE,
        Rule(
            "change_onu",
            f"onu replaced, {PREVIOUS} change_onu",
            goes="onu in service",
            undo=Undo(
                "restore_onu",
                goes=f"onu replaced, {PREVIOUS} change_onu, network profile changed",
                comes="onu in service, network profile",
            ),
            says="skipped",
        ),
        Rule(
            "change_cpe",
            f"cpe replaced, {PREVIOUS} change_cpe",
            goes="cpe in service",
            undo=Undo(
                "restore_cpe",
                goes=f"cpe replaced, {PREVIOUS} change_cpe, network profile changed",
                comes="cpe in service, network profile",
            ),
            says="skipped",
        ),
        _UPDATE_ACCOUNT,
    ),
    after=("provision",),
)

RELOCATE = Flow(
    LINE,
    (
        Rule(VERIFY),
        _CHANGE_LINE,
        *(
            Rule(
                f"change_{kind}",
                f"{PREVIOUS} change_{kind}",
                undo=Undo(
                    f"restore_{kind}",
                    goes=f"{PREVIOUS} change_{kind}, network profile changed",
                    comes="network profile",
                ),
                says="skipped",
            )
            for kind in ("onu", "cpe")
        ),
        _UPDATE_ACCOUNT,
    ),
    after=("provision",),
)

CHANGE_PLAN = Flow(
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
)

TRANSFER = Flow(
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
)
