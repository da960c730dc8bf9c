"""The workflows that a worker runs, and the options with which it runs them."""

from pydantic import ValidationError
from temporalio.worker import UnsandboxedWorkflowRunner

from workflows.change_addressing import AddressingChange
from workflows.change_plan import PlanChange
from workflows.deprovision import Deprovision
from workflows.maintenance.audit import Audit, Metrics
from workflows.maintenance.cleanup import FinishRevocation, StalePrefixCleanup
from workflows.maintenance.pool_mode_change import ChangePoolMode
from workflows.maintenance.resumption import Resumption
from workflows.provision import Provision
from workflows.relocate import LineRelocation
from workflows.renumber import Renumbering
from workflows.replace_device import DeviceReplacement
from workflows.resume import Resume
from workflows.rotate_credentials import CredentialRotation
from workflows.scheduled_start import ScheduledStart
from workflows.suspend import Suspend
from workflows.transfer import LineTransfer
from workflows.update_customer import CustomerUpdate

__all__ = ["FAILURE_TYPES", "RUNNER", "WORKFLOWS"]

WORKFLOWS: list[type] = [
    Provision,
    Deprovision,
    Renumbering,
    AddressingChange,
    CustomerUpdate,
    CredentialRotation,
    DeviceReplacement,
    LineRelocation,
    PlanChange,
    LineTransfer,
    Suspend,
    Resume,
    ScheduledStart,
    StalePrefixCleanup,
    FinishRevocation,
    Metrics,
    Audit,
    Resumption,
    ChangePoolMode,
]

# A caller without our models can send an order that does not fit them. Its run fails and says why: without this,
# Temporal would retry the workflow task for ever.
FAILURE_TYPES: list[type[BaseException]] = [ValidationError]

# The sandbox costs more than a run unless our modules pass through it, and then it checks nothing of ours. The tests
# replay every recorded run in the strictest sandbox instead (tests/workflows/test_replay.py).
RUNNER = UnsandboxedWorkflowRunner()
