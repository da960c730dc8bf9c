"""Replay the histories that earlier versions recorded, and name the remedies for an incompatible change."""

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
"""The histories of the next version; each released version has a directory of its name below."""

SUMS = "SHA256SUMS"
"""The file with the output of `sha256sum *.json` at the release, in the directory of a released version."""

# Workers run without a sandbox (workflows/registry.py). Here the sandbox is as strict as possible: it passes through
# only modules that have no logic of a run.
SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("activities", "ipam", "lastmile")
)

_BREAKS = """\
This change breaks running workflows: a run that an earlier version began would stop at its next task.

  workflow:  {workflow}
  history:   {history}
  differs:   {difference}

Do one of these (docs/development/changing-workflows.md describes them):
  - guard the change with `workflow.patched("what-changes")`, and keep the old commands where it is false
    (https://docs.temporal.io/develop/python/workflows/versioning#patching);
  - deploy it as a new version: workers with a build id of their own (LASTMILE_BUILD_ID), beside the old ones until
    the old runs have ended;
  - record again (`python -m tests.workflows.record_histories`), only if no run of the old code can be open. Histories
    of a released version, in a directory of its name, are never recorded again."""

# The SDK's core returns its failure in Rust's debug format, which contains the message.
_SENTENCE = re.compile(r'message: "(.*?)", source: "')


async def replay(file: Path, workflows: Sequence[type] = WORKFLOWS, runner: WorkflowRunner = SANDBOX) -> None:
    """Fail the test with the remedies unless `workflows` replay the history in `file`."""
    recorded = json.loads(file.read_text())
    started = recorded["events"][0]["workflowExecutionStartedEventAttributes"]
    # The sandbox prepares each workflow that the replayer gets, which takes longer than the replay.
    replayer = Replayer(
        workflows=[one for one in workflows if _name_of(one) == started["workflowType"]["name"]],
        workflow_runner=runner,
        workflow_failure_exception_types=FAILURE_TYPES,
        data_converter=pydantic_data_converter,
        debug_mode=True,  # a slow machine must not count as a deadlocked workflow
    )
    # A run checks that its workflow id names its subscriber.
    history = WorkflowHistory.from_json(started["workflowId"], recorded)
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


def _name_of(workflow: type) -> str:
    return str(getattr(workflow, "__temporal_workflow_definition").name)


def altered(released: Path) -> list[str]:
    """Return the histories in a released version's directory that were changed, removed or added since the release."""
    lines = (released / SUMS).read_text().splitlines() if (released / SUMS).exists() else []
    then = {name: digest for digest, name in (line.split() for line in lines)}
    now = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in released.glob("*.json")}
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
