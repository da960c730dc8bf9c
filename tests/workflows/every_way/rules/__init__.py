"""The effects of each step and of its undo, written down for the tests, independent of the tested code.

The state of a subscriber is a set of facts, such as "customer" or "prefix active".
"""

from collections.abc import Mapping

from tests.workflows.every_way.rules.controlled_lines import ON_CONTROLLED_LINES
from tests.workflows.every_way.rules.lifetime import DEPROVISION, PROVISION
from tests.workflows.every_way.rules.line_changes import (
    CHANGE_PLAN,
    RELOCATE,
    REPLACE_DEVICE,
    ROTATE_CREDENTIALS,
    TRANSFER,
    UPDATE_CUSTOMER,
)
from tests.workflows.every_way.rules.replacements import CHANGE_ADDRESSING, RENUMBER
from tests.workflows.every_way.rules.rule import Flow
from tests.workflows.every_way.rules.suspended_lines import ON_SUSPENDED_LINES
from tests.workflows.every_way.rules.suspensions import RESUME, SUSPEND

__all__ = ["ON_CONTROLLED_LINES", "ON_SUSPENDED_LINES", "OPERATIONS"]

OPERATIONS: Mapping[str, Flow] = {
    "provision": PROVISION,
    "deprovision": DEPROVISION,
    "renumber": RENUMBER,
    "change_addressing": CHANGE_ADDRESSING,
    "update_customer": UPDATE_CUSTOMER,
    "rotate_credentials": ROTATE_CREDENTIALS,
    "replace_device": REPLACE_DEVICE,
    "relocate": RELOCATE,
    "change_plan": CHANGE_PLAN,
    "transfer": TRANSFER,
    "suspend": SUSPEND,
    "resume": RESUME,
}
