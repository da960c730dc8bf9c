"""The workflows that a worker runs, and how."""

from pydantic import ValidationError
from temporalio.worker import UnsandboxedWorkflowRunner

from workflows.deprovision import Deprovision
from workflows.maintenance.audit import Audit, Metrics
from workflows.maintenance.cleanup import FinishRevocation, StalePrefixCleanup
from workflows.provision import Provision
from workflows.scheduled_start import Dispatch

__all__ = ["FAILURE_TYPES", "RUNNER", "WORKFLOWS"]

WORKFLOWS: list[type] = [Provision, Deprovision, Dispatch, StalePrefixCleanup, FinishRevocation, Metrics, Audit]

# An order that does not fit the models, from a caller without them, ends its run and says why; otherwise
# Temporal would retry the workflow task for ever.
FAILURE_TYPES: list[type[BaseException]] = [ValidationError]

# Nothing of ours is left for the sandbox to watch once our modules pass through it, and without that it costs more than
# the run. The tests replay every recorded run in the sandbox at its strictest instead (tests/workflows/test_replay.py).
RUNNER = UnsandboxedWorkflowRunner()
