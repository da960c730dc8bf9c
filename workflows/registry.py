"""The workflows that a worker runs, and the sandbox that keeps them deterministic."""

from pydantic import ValidationError
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.deprovision import Deprovision
from workflows.dispatch import Dispatch
from workflows.provision import Provision

__all__ = ["FAILURE_TYPES", "WORKFLOWS", "sandbox"]

WORKFLOWS: list[type] = [Provision, Deprovision, Dispatch]

# An order that does not fit the models, from a caller without them, ends its run and says why; otherwise
# Temporal would retry the workflow task for ever.
FAILURE_TYPES: list[type[BaseException]] = [ValidationError]

_MODELS = ("activities", "errors", "ipam", "subscribers", "workflows.contract")


def sandbox() -> SandboxedWorkflowRunner:
    """The models are pure and loaded once: reloading them for every run costs more than the run."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*_MODELS))
