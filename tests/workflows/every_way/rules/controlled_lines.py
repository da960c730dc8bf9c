"""The rules of the operations on lines whose devices have controllers, made of those on lines without."""

from dataclasses import replace

from tests.workflows.every_way.rules.lifetime import DEPROVISION, PROVISION
from tests.workflows.every_way.rules.line_changes import CHANGE_PLAN, RELOCATE, REPLACE_DEVICE
from tests.workflows.every_way.rules.rule import Flow

__all__ = ["CALLS", "ON_CONTROLLED_LINES"]

CALLS = {
    **dict.fromkeys(("activate_onu", "configure_cpe"), "on"),
    **dict.fromkeys(("deactivate_onu", "unconfigure_cpe"), "off"),
    **dict.fromkeys(("change_onu", "change_cpe", "restore_onu", "restore_cpe"), "on"),
    **dict.fromkeys(("change_onu_speed", "restore_onu_speed"), "speed"),
}
"""The call to a controller by which each step and undo puts the device into its state."""


def _controlled(flow: Flow) -> Flow:
    steps = (replace(rule, says="done") if rule.name in CALLS else rule for rule in flow.steps)
    return replace(flow, steps=tuple(steps))


ON_CONTROLLED_LINES = {
    "provision": _controlled(PROVISION),
    "deprovision": _controlled(DEPROVISION),
    "replace_device": _controlled(REPLACE_DEVICE),
    "relocate": _controlled(RELOCATE),
    "change_plan": _controlled(CHANGE_PLAN),
}
