"""Each order type and each step is known in every place that depends on it."""

from pathlib import Path
from typing import Any, cast

import pytest

import ipam.tables
import lastmile.devices.records
import lastmile.radius.tables
import lastmile.subscribers.tables
from lastmile.contract import Created, Operation, Order
from lastmile.contract.operations import OPERATIONS, LineEffect, OrderType
from lastmile.contract.steps import CallKind, RecordKind, Step
from lastmile.db.metadata import metadata
from lastmile.subscribers.order_records import ORDER_RECORDS
from tests.contract.places import missing_places

ROOT = Path(__file__).parents[2]

TABLES = (ipam.tables, lastmile.devices.records, lastmile.radius.tables, lastmile.subscribers.tables)

PAUSE = cast(Operation, "pause")
VOUCHER = cast(RecordKind, "voucher")


class PauseSubscriber(Order):
    """An order type that only this test knows."""

    operation = PAUSE


PAUSED = OrderType(
    operation=PAUSE,
    model=PauseSubscriber,
    summary="Pause the service.",
    effect=LineEffect.CHANGES,
    invariants=("paused_in_service",),
    steps=(
        Step("issue_voucher", "issue a voucher", CallKind.DATABASE, creates=(VOUCHER,), facts=("voucher_id",)),
        Step("pause_session", "pause the session", CallKind.RADIUS, undo="resume_session"),
    ),
)


@pytest.mark.parametrize("entry", OPERATIONS.values(), ids=OPERATIONS)
def test_order_type_is_known_in_every_place(entry: OrderType[Any]) -> None:
    assert missing_places(entry) == []


def test_new_order_type_names_every_place_that_lacks_it() -> None:
    assert missing_places(PAUSED) == [
        "`Operation` in lastmile/contract/orders.py has no member 'pause'.",
        "`AnyOrder` in lastmile/contract/orders.py lacks PauseSubscriber.",
        "lastmile/client/__init__.py does not export PauseSubscriber.",
        "workflows/registry.py has no workflow named 'Pause'.",
        "activities/ has no activity 'issue_voucher', which a step of pause names.",
        "activities/ has no activity 'pause_session', which a step of pause names.",
        "activities/ has no activity 'resume_session', which a step of pause names.",
        "Step issue_voucher comes before the pivot of pause, changes records and has no undo.",
        "`Created` in lastmile/contract/results.py lacks field 'voucher_id', which step issue_voucher reports.",
        "lastmile/subscribers/order_records.py has no table for 'voucher', which step issue_voucher writes.",
        "lastmile/audit/ has no invariant 'paused_in_service', which the entry of pause names.",
        "Order files do not know the operation 'pause' (lastmile/services/order_files/record.py).",
        "lastmile/cli/app.py has no command `lastmile pause`.",
        "lastmile/services/step_rehearsals/ does not rehearse step issue_voucher of pause.",
        "lastmile/services/step_rehearsals/ does not rehearse step pause_session of pause.",
        "lastmile/telemetry/metrics.py does not count orders of pause from zero.",
        "docs/reference/order-types.md lacks steps of pause: run `make docs`.",
        "docs/reference/orders-and-results.md does not describe PauseSubscriber.",
        "tests/workflows/histories/ has no recorded run of pause.",
        "tests/workflows/every_way/rules/ has no rules for pause.",
    ]


def test_every_operation_has_one_entry() -> None:
    assert list(OPERATIONS) == list(Operation)


@pytest.mark.parametrize("operation", Operation)
def test_no_sql_names_an_order_type(operation: Operation) -> None:
    packages = [ROOT / name for name in ("activities", "ipam", "lastmile", "workflows")]
    sources = [path for package in packages for path in package.rglob("*") if path.suffix in (".py", ".sql")]
    assert len(sources) > 100
    assert [str(path) for path in sources if f"'{operation}'" in path.read_text(encoding="utf-8")] == []


def test_steps_report_every_field_of_the_result() -> None:
    reported = {fact for entry in OPERATIONS.values() for step in entry.steps for fact in step.facts}
    assert reported == set(Created.model_fields)


def test_order_records_name_every_column_that_holds_an_order() -> None:
    assert all(TABLES)
    columns = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if column.name.endswith("_by_order")
    }
    assert columns == {
        (records.table, column) for records in ORDER_RECORDS.values() for column in records.order_columns
    }
