"""Runs that an earlier version began go on under this one: it replays what that recorded (record_histories.py)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from tests.workflows.record_histories import NAMES
from workflows import provision
from workflows.contract import OrderResult, ProvisionSubscriber
from workflows.operator_controls import Steerable
from workflows.registry import FAILURE_TYPES, WORKFLOWS
from workflows.saga import Kind, Saga, Step

HISTORIES = sorted(Path(__file__).with_name("histories").glob("*.json"))
# Workers run without it (workflows/registry.py). Here it is as strict as it can be: only the models, which have no
# logic of a run in them, are loaded once.
SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules(
        "activities", "errors", "ipam", "subscribers", "workflows.contract"
    )
)
FIRST, SECOND, *REST = provision.STEPS


def history(file: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(file.stem, file.read_text())


@workflow.defn(name="Provision")
class Changed(Steerable):
    """The provision workflow with the steps that a test gives it."""

    steps: ClassVar[Sequence[Step[ProvisionSubscriber]]]

    @workflow.init
    def __init__(self, order: ProvisionSubscriber) -> None:
        self._saga = Saga(order, self.steps)

    @workflow.run
    async def run(self, order: ProvisionSubscriber) -> OrderResult:
        return await self._saga.run()


async def replay_with(steps: Sequence[Step[ProvisionSubscriber]], name: str) -> None:
    Changed.steps = steps
    replayer = Replayer(
        workflows=[Changed], workflow_runner=UnsandboxedWorkflowRunner(), data_converter=pydantic_data_converter
    )
    await replayer.replay_workflow(history(HISTORIES[0].with_name(f"{name}.json")))


def test_there_is_a_history_of_each_way_to_end() -> None:
    assert sorted(NAMES) == [file.stem for file in HISTORIES], "python -m tests.workflows.record_histories"


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_every_recorded_run_replays(file: Path) -> None:
    replayer = Replayer(
        workflows=WORKFLOWS,
        workflow_runner=SANDBOX,
        workflow_failure_exception_types=FAILURE_TYPES,
        data_converter=pydantic_data_converter,
    )
    await replayer.replay_workflow(history(file))


@pytest.mark.parametrize(
    "steps",
    [(SECOND, FIRST, *REST), (SECOND, *REST), (FIRST, SECOND, *REST[1:], REST[0])],
    ids=["swapped", "one less", "one later"],
)
@pytest.mark.parametrize(
    "name", ["provision_completed", "provision_refused_rolled_back", "provision_cancel_rolled_back"]
)
async def test_other_steps_do_not_pass_for_the_recorded_ones(
    name: str, steps: Sequence[Step[ProvisionSubscriber]]
) -> None:
    with pytest.raises(workflow.NondeterminismError):
        await replay_with(steps, name)


async def test_titles_and_patience_may_change_while_runs_are_open() -> None:
    steps = [replace(step, title="another title", kind=Kind.DEVICE) for step in provision.STEPS]
    await replay_with(steps, "provision_completed")
