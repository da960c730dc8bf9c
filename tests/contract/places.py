"""The places that depend on an order type: each check returns a sentence for every missing entry."""

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import typer
from prometheus_client import REGISTRY
from temporalio.workflow import _Definition

import activities
import lastmile.client
from activities.base import Activities
from lastmile.audit.invariants import INVARIANTS
from lastmile.cli.app import app
from lastmile.contract import AnyOrder, Created, Operation
from lastmile.contract.operations import OrderType
from lastmile.services.order_files.record import InvalidRecordError, model_of
from lastmile.services.step_rehearsals import REHEARSALS
from lastmile.subscribers.order_records import ORDER_RECORDS
from lastmile.telemetry.metrics import OUTCOMES, start_at_zero
from tests.workflows.every_way.rules import OPERATIONS as WAYS
from workflows.registry import WORKFLOWS

__all__ = ["missing_places"]

ROOT = Path(__file__).parents[2]

AnyType = OrderType[Any]


def missing_places(entry: AnyType) -> list[str]:
    """Return a sentence for each place that does not know the order type, or a step of it."""
    return [sentence for place in _PLACES for sentence in place(entry)]


def _contract(entry: AnyType) -> Iterator[str]:
    if entry.operation not in set(Operation):
        yield f"`Operation` in lastmile/contract/orders.py has no member {entry.operation!r}."
    if entry.model not in get_args(AnyOrder):
        yield f"`AnyOrder` in lastmile/contract/orders.py lacks {entry.model.__name__}."
    if entry.model.operation != entry.operation:
        yield f"{entry.model.__name__}.operation is not {entry.operation!r}."


def _client(entry: AnyType) -> Iterator[str]:
    if getattr(lastmile.client, entry.model.__name__, None) is not entry.model:
        yield f"lastmile/client/__init__.py does not export {entry.model.__name__}."


def _workflows(entry: AnyType) -> Iterator[str]:
    definitions = {definition.name: definition for definition in map(_Definition.must_from_class, WORKFLOWS)}
    if (definition := definitions.get(entry.workflow)) is None:
        yield f"workflows/registry.py has no workflow named {entry.workflow!r}."
    elif definition.arg_types != [entry.model | None]:
        yield f"Workflow {entry.workflow} does not take {entry.model.__name__}."


def _activities(entry: AnyType) -> Iterator[str]:
    known = set(_activity_names())
    for step in entry.steps:
        for name in filter(None, (step.name, step.undo)):
            if name not in known:
                yield f"activities/ has no activity {name!r}, which a step of {entry.operation} names."


def _activity_names() -> Iterator[str]:
    for module in pkgutil.walk_packages(activities.__path__, "activities."):
        for found in vars(import_module(module.name)).values():
            if isinstance(found, type) and issubclass(found, Activities):
                for method in vars(found).values():
                    if definition := getattr(method, "__temporal_activity_definition", None):
                        yield definition.name


def _undo(entry: AnyType) -> Iterator[str]:
    for step in entry.steps:
        if step.pivot:
            return
        if step.undo is None and (step.creates or step.changes):
            yield f"Step {step.name} comes before the pivot of {entry.operation}, changes records and has no undo."


def _results(entry: AnyType) -> Iterator[str]:
    for step in entry.steps:
        for fact in step.facts:
            if fact not in Created.model_fields:
                yield f"`Created` in lastmile/contract/results.py lacks field {fact!r}, which step {step.name} reports."


def _leftovers(entry: AnyType) -> Iterator[str]:
    for step in entry.steps:
        for kind in (*step.creates, *step.changes):
            if kind not in ORDER_RECORDS:
                yield f"lastmile/subscribers/order_records.py has no table for {kind!r}, which step {step.name} writes."


def _audit(entry: AnyType) -> Iterator[str]:
    known = {invariant.name for invariant in INVARIANTS}
    if not entry.invariants:
        yield f"The entry of {entry.operation} names no invariant of the audit."
    for name in entry.invariants:
        if name not in known:
            yield f"lastmile/audit/ has no invariant {name!r}, which the entry of {entry.operation} names."


def _order_files(entry: AnyType) -> Iterator[str]:
    try:
        model, _ = model_of({"operation": str(entry.operation)})
    except InvalidRecordError:
        model = None
    if model is not entry.model:
        yield f"Order files do not know the operation {entry.operation!r} (lastmile/services/order_files/record.py)."


def _command(entry: AnyType) -> Iterator[str]:
    name = entry.operation.replace("_", "-")
    if name not in vars(typer.main.get_command(app))["commands"]:
        yield f"lastmile/cli/app.py has no command `lastmile {name}`."


def _dry_run(entry: AnyType) -> Iterator[str]:
    for step in entry.steps:
        if step.name not in REHEARSALS:
            yield f"lastmile/services/step_rehearsals/ does not rehearse step {step.name} of {entry.operation}."


def _metrics(entry: AnyType) -> Iterator[str]:
    start_at_zero("places")
    labels = {"operation": str(entry.operation), "tenant": "places"}
    if any(REGISTRY.get_sample_value("lastmile_orders_total", labels | {"outcome": one}) is None for one in OUTCOMES):
        yield f"lastmile/telemetry/metrics.py does not count orders of {entry.operation} from zero."


def _documentation(entry: AnyType) -> Iterator[str]:
    steps = (ROOT / "docs/reference/order-types.md").read_text()
    if not all(f"`{step.name}`" in steps for step in entry.steps):
        yield f"docs/reference/order-types.md lacks steps of {entry.operation}: run `make docs`."
    if f"`{entry.model.__name__}`" not in (ROOT / "docs/reference/orders-and-results.md").read_text():
        yield f"docs/reference/orders-and-results.md does not describe {entry.model.__name__}."


def _tests(entry: AnyType) -> Iterator[str]:
    if not list((ROOT / "tests/workflows/histories").glob(f"{entry.operation}_*.json")):
        yield f"tests/workflows/histories/ has no recorded run of {entry.operation}."
    if entry.operation not in WAYS:
        yield f"tests/workflows/every_way/rules/ has no rules for {entry.operation}."
    elif [rule.name for rule in WAYS[entry.operation].steps] != [step.name for step in entry.steps]:
        yield f"tests/workflows/every_way/rules/ has other steps for {entry.operation}."


_PLACES: tuple[Callable[[AnyType], Iterator[str]], ...] = (
    _contract,
    _client,
    _workflows,
    _activities,
    _undo,
    _results,
    _leftovers,
    _audit,
    _order_files,
    _command,
    _dry_run,
    _metrics,
    _documentation,
    _tests,
)
