"""Replays what earlier versions recorded, and says what to do where this version would break their runs."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.registry import FAILURE_TYPES, WORKFLOWS

__all__ = ["DIRECTORY", "SUMS", "altered", "replay"]

ROOT = Path(__file__).parents[2]
DIRECTORY = Path(__file__).with_name("histories")
"""Of the version to come; below it those of each released version, in a directory of that name."""

SUMS = "SHA256SUMS"
"""In a released version's directory: what `sha256sum *.json` printed when it was released."""

# Workers run without it (workflows/registry.py). Here it is as strict as it can be: only the models, which have no
# logic of a run in them, are loaded once.
SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("activities", "ipam", "lastmile")
)

_BREAKS = """\
This change breaks running workflows: a run that an earlier version began would stop at its next task and not go on.

  workflow:  {workflow}
  history:   {history}
  differs:   {difference}

Do one of these (docs/development/changing-workflows.md tells how):
  - guard the change with `workflow.patched("what-changes")`, and keep the old commands where it is false
    (https://docs.temporal.io/develop/python/workflows/versioning#patching);
  - deploy it as a new version: workers with a build id of their own (LASTMILE_BUILD_ID), beside the old ones until
    the old runs have ended;
  - record anew (`python -m tests.workflows.record_histories`), only if no run of the old code can be open. Histories of
    a released version, in a directory of its name, are never recorded anew."""

# The SDK's core hands its failure over as Rust prints it; the sentence for people is inside.
_SENTENCE = re.compile(r'message: "(.*?)", source: "')


async def replay(file: Path, workflows: Sequence[type] = WORKFLOWS, runner: WorkflowRunner = SANDBOX) -> None:
    """Fail the test, with what to do, unless `workflows` do again what the history in `file` says was done."""
    replayer = Replayer(
        workflows=workflows,
        workflow_runner=runner,
        workflow_failure_exception_types=FAILURE_TYPES,
        data_converter=pydantic_data_converter,
        debug_mode=True,  # a machine that stops for two seconds is no workflow that does
    )
    recorded = json.loads(file.read_text())
    # A run checks that its workflow id is its subscriber's.
    id_ = recorded["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"]
    history = WorkflowHistory.from_json(id_, recorded)
    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    if result.replay_failure is not None:
        difference = str(result.replay_failure)
        sentence = _SENTENCE.search(difference)
        words = _BREAKS.format(
            workflow=history.events[0].workflow_execution_started_event_attributes.workflow_type.name,
            history=file.relative_to(ROOT),
            difference=sentence[1] if sentence else difference,
        )
        pytest.fail(words, pytrace=False)


def altered(released: Path) -> list[str]:
    """The histories in a released version's directory that are no longer what was released, or are missing or new."""
    lines = (released / SUMS).read_text().splitlines() if (released / SUMS).exists() else []
    then = {name: digest for digest, name in (line.split() for line in lines)}
    now = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in released.glob("*.json")}
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
