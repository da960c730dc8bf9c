"""This version continues the runs of earlier versions: it replays their recorded histories (record_histories.py)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from temporalio import workflow
from temporalio.worker import UnsandboxedWorkflowRunner

from lastmile.contract import OrderResult, ProvisionSubscriber, operations
from lastmile.contract.steps import CallKind, Step
from tests.workflows.record_histories import NAMES
from tests.workflows.replaying import DIRECTORY, SUMS, altered, replay
from workflows.order_workflow import OrderWorkflow
from workflows.saga import Saga
from workflows.search_attributes import STEP

HISTORIES = sorted(DIRECTORY.rglob("*.json"))
RELEASED = sorted(path for path in DIRECTORY.iterdir() if path.is_dir())
FIRST, SECOND, *REST = operations.PROVISION.steps


@workflow.defn(name="Provision")
class Changed(OrderWorkflow):
    """The provision workflow with the steps that a test gives it."""

    steps: ClassVar[Sequence[Step[ProvisionSubscriber]]]

    @workflow.init
    def __init__(self, order: ProvisionSubscriber) -> None:
        self._saga = Saga(order, self.steps)

    @workflow.run
    async def run(self, order: ProvisionSubscriber) -> OrderResult:
        return await self._saga.run()


@workflow.defn(name="Provision")
class Tagged(OrderWorkflow):
    """The provision workflow with one more search attribute."""

    @workflow.init
    def __init__(self, order: ProvisionSubscriber) -> None:
        self._saga = Saga(order, operations.PROVISION.steps)

    @workflow.run
    async def run(self, order: ProvisionSubscriber) -> OrderResult:
        workflow.upsert_search_attributes([STEP.value_set("begun")])
        return await self._saga.run()


@workflow.defn(name="Provision")
class Guarded(OrderWorkflow):
    """The provision workflow with other steps for new runs, as docs/development/changing-workflows.md describes."""

    @workflow.init
    def __init__(self, order: ProvisionSubscriber) -> None:
        self._saga = Saga(
            order, operations.PROVISION.steps[1:] if workflow.patched("no-customers") else operations.PROVISION.steps
        )

    @workflow.run
    async def run(self, order: ProvisionSubscriber) -> OrderResult:
        return await self._saga.run()


async def replay_with(changed: type, name: str) -> None:
    await replay(DIRECTORY / f"{name}.json", [changed], UnsandboxedWorkflowRunner())


def test_every_ending_has_a_recorded_history() -> None:
    recorded = {file.stem for file in DIRECTORY.glob("*.json")}
    assert recorded == set(NAMES), "python -m tests.workflows.record_histories"


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: str(file.relative_to(DIRECTORY)))
async def test_recorded_history_replays(file: Path) -> None:
    await replay(file)


def test_histories_of_released_versions_are_unchanged() -> None:
    """A new recording would hide an incompatible change instead of fixing it."""
    assert {version.name: names for version in RELEASED if (names := altered(version))} == {}, (
        "histories of released versions are never recorded again: restore them from the release, and guard the change "
        "(docs/development/changing-workflows.md)"
    )


def test_altered_history_of_a_release_is_found(tmp_path: Path) -> None:
    for name in ("changed", "kept", "new", "removed"):
        (tmp_path / f"{name}.json").write_text("{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of {}
    (tmp_path / SUMS).write_text("".join(f"{digest}  {name}.json\n" for name in ("changed", "kept", "removed")))
    (tmp_path / "changed.json").write_text('{"events": []}')
    (tmp_path / "removed.json").unlink()
    assert altered(tmp_path) == ["changed.json", "new.json", "removed.json"]
    (tmp_path / SUMS).unlink()
    assert "kept.json" in altered(tmp_path)


@pytest.mark.parametrize(
    "steps",
    [(SECOND, FIRST, *REST), (SECOND, *REST), (FIRST, SECOND, *REST[1:], REST[0])],
    ids=["swapped", "one less", "one later"],
)
@pytest.mark.parametrize(
    "name", ["provision_completed", "provision_refused_rolled_back", "provision_cancel_rolled_back"]
)
async def test_replay_with_other_steps_fails(name: str, steps: Sequence[Step[ProvisionSubscriber]]) -> None:
    Changed.steps = steps
    with pytest.raises(pytest.fail.Exception, match=rf"Provision\n.*{name}\.json\n.*Nondeterminism"):
        await replay_with(Changed, name)


async def test_replay_with_an_incompatible_change_names_the_remedies() -> None:
    with pytest.raises(pytest.fail.Exception) as told:
        await replay_with(Tagged, "provision_completed")
    words = str(told.value)
    assert "workflow:  Provision\n" in words
    assert "history:   tests/workflows/histories/provision_completed.json\n" in words
    assert "differs:   [TMPRL1100] Nondeterminism error: " in words
    for remedy in ("workflow.patched(", "as a new version", "python -m tests.workflows.record_histories"):
        assert remedy in words


async def test_replay_with_a_guarded_change_succeeds() -> None:
    await replay_with(Guarded, "provision_completed")


async def test_replay_with_other_titles_and_retries_succeeds() -> None:
    *most, last = operations.PROVISION.steps
    Changed.steps = [replace(step, title="another title", kind=CallKind.DEVICE) for step in most]
    Changed.steps.append(replace(last, title="another title"))
    await replay_with(Changed, "provision_completed")
