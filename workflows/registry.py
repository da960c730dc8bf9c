"""The workflows that a worker runs, and the options with which it runs them."""

from pydantic import ValidationError
from temporalio.worker import UnsandboxedWorkflowRunner

from workflows.change_addressing import ChangeAddressingWorkflow
from workflows.change_plan import ChangePlanWorkflow
from workflows.deprovision import DeprovisionWorkflow
from workflows.maintenance.audit import Audit, Metrics
from workflows.maintenance.cleanup import FinishRevocation, StalePrefixCleanup
from workflows.maintenance.pool_mode_change import ChangePoolMode
from workflows.maintenance.pool_renumbering import RenumberPool
from workflows.maintenance.resumption import Resumption
from workflows.provision import ProvisionWorkflow
from workflows.relocate import RelocateWorkflow
from workflows.renumber import RenumberWorkflow
from workflows.replace_device import ReplaceDeviceWorkflow
from workflows.resume import ResumeWorkflow
from workflows.rotate_credentials import RotateCredentialsWorkflow
from workflows.scheduled_start import ScheduledStart
from workflows.suspend import SuspendWorkflow
from workflows.transfer import TransferWorkflow
from workflows.update_customer import UpdateCustomerWorkflow

__all__ = ["FAILURE_TYPES", "RUNNER", "WORKFLOWS"]

WORKFLOWS: list[type] = [
    ProvisionWorkflow,
    DeprovisionWorkflow,
    RenumberWorkflow,
    ChangeAddressingWorkflow,
    UpdateCustomerWorkflow,
    RotateCredentialsWorkflow,
    ReplaceDeviceWorkflow,
    RelocateWorkflow,
    ChangePlanWorkflow,
    TransferWorkflow,
    SuspendWorkflow,
    ResumeWorkflow,
    ScheduledStart,
    StalePrefixCleanup,
    FinishRevocation,
    Metrics,
    Audit,
    Resumption,
    ChangePoolMode,
    RenumberPool,
]

# A caller without our models can send an order that does not fit them. Its run fails and says why: without this,
# Temporal would retry the workflow task for ever.
FAILURE_TYPES: list[type[BaseException]] = [ValidationError]

# The sandbox costs more than a run unless our modules pass through it, and then it checks nothing of ours. The tests
# replay every recorded run in the strictest sandbox instead (tests/workflows/test_replay.py).
RUNNER = UnsandboxedWorkflowRunner()
