"""A worker registers every activity and workflow that is used."""

from typing import Any

import pytest
from temporalio.worker import Worker

from lastmile.client.schedules.plans import SCHEDULES
from lastmile.contract import operations
from lastmile.contract.steps import Step, pivot_of
from workflows.maintenance import cleanup
from workflows.registry import WORKFLOWS

STEPS: list[Step[Any]] = [step for entry in operations.OPERATIONS.values() for step in entry.steps]
ORDERS = {"open_order", "run_steps", "begin_rollback", "close_order"}
CLEANUP = {part.activity for part in cleanup.PARTS} | {cleanup.FINISH, "cleanup_ended"}
POOL_MODE = {"plan_pool_mode", "prepare_pool", "close_pool", "convert_pool", "return_blocks", "open_pool"}
POOL_RENUMBERING = {"count_pool_lines", "find_lines_to_renumber"}
AUDIT = {"invariants", "check_invariant", "compare_with_netbox", "retry_disconnects", "audit_ended"}


@pytest.fixture
def registered(worker: Worker) -> set[str]:
    activities = worker.config().get("activities", ())
    return {getattr(activity, "__temporal_activity_definition").name for activity in activities}


def test_every_step_and_undo_is_a_registered_activity(registered: set[str]) -> None:
    assert {step.name for step in STEPS} | {step.undo for step in STEPS if step.undo} <= registered


def test_every_registered_activity_is_used(registered: set[str]) -> None:
    named = {step.name for step in STEPS} | {step.undo for step in STEPS}
    scheduled = CLEANUP | AUDIT | {"take_snapshot", "find_due_resumptions"}
    assert registered - named == ORDERS | scheduled | POOL_MODE | POOL_RENUMBERING


def test_worker_registers_every_workflow(worker: Worker) -> None:
    assert worker.config().get("workflows") == WORKFLOWS


def test_every_step_of_provision_has_an_undo() -> None:
    assert all(step.undo for step in operations.PROVISION.steps)


def test_deprovision_steps_before_the_pivot_have_an_undo() -> None:
    pivot = pivot_of(operations.DEPROVISION.steps)
    assert [step.name for step in operations.DEPROVISION.steps[:pivot] if step.undo is None] == ["verify_subscriber"]
    assert operations.DEPROVISION.steps[pivot].name == "revoke_ipv6_lifecycle"


def test_every_schedule_starts_a_registered_workflow() -> None:
    assert {plan.workflow for plan in SCHEDULES} == {"StalePrefixCleanup", "Metrics", "Audit", "Resumption"}
    assert {plan.workflow for plan in SCHEDULES} <= {workflow.__name__ for workflow in WORKFLOWS}
