"""`lastmile cleanup`: the daily cleanup by hand, with other limits or without doing anything."""

from pydantic import ValidationError
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError

from lastmile.cli.connections import Temporal, load_settings
from lastmile.cli.exit_codes import Exit, UnavailableError
from lastmile.cli.output import complain, console, facts, print_json, say
from lastmile.client.errors import AlreadyRunningError
from lastmile.client.orders import outlasting
from lastmile.contract import Cleanup, CleanupResult
from lastmile.errors import InvalidInputError
from lastmile.validation_messages import mistakes

__all__ = ["cleanup"]

_WORDS = {
    "revoking_stuck": "revocations that were stuck",
    "revoking_completed": "  of them completed",
    "allocated_stale": "prefixes allocated and not used",
    "revoked_deleted": "ended delegations deleted",
    "trail_forgotten": "entries of the audit log purged",
    "events_forgotten": "events of delegations purged",
    "netbox_removed": "records removed from NetBox",
    "errors": "errors",
}


async def cleanup(*, as_json: bool, **wanted: float | bool) -> Exit:
    """Run it and wait for its end; FAILED where there were errors. Raises `AlreadyRunningError`."""
    try:
        limits = Cleanup.model_validate(wanted)
    except ValidationError as failure:
        options = {name: f"--{name.replace('_', '-')}" for name in wanted}
        raise InvalidInputError("Cannot start the cleanup:", mistakes(failure, Cleanup, options)) from None
    settings = load_settings()
    temporal = await Temporal.connect(settings)
    if lack := await temporal.lack_of_workers():
        raise UnavailableError(f"The cleanup was not started. {lack}")
    id_ = f"{settings.task_queue}/cleanup-by-hand"
    try:
        run = await temporal.client.start_workflow(
            "StalePrefixCleanup", limits, id=id_, task_queue=settings.task_queue, result_type=CleanupResult
        )
    except WorkflowAlreadyStartedError:
        raise AlreadyRunningError(f"A cleanup that was started by hand is running, as {id_}: wait for it.") from None
    try:
        result = await outlasting(run.result)
    except WorkflowFailureError as failure:
        if not (isinstance(failure.cause, ApplicationError) and failure.cause.details):
            complain(f"The cleanup was stopped before its end: {failure.cause}")
            return Exit.FAILED
        result = CleanupResult.model_validate(failure.cause.details[0])
    _show(result, as_json)
    return Exit.FAILED if result.errors else Exit.DONE


def _show(result: CleanupResult, as_json: bool) -> None:
    if as_json:
        print_json(result.model_dump())
        return
    title = "Dry run: nothing was changed" if result.dry_run else "Cleanup"
    console.print(facts(title, {words: f"{getattr(result, name):,}" for name, words in _WORDS.items()}))
    for note in result.notes:
        say(note)
    for problem in result.problems:
        complain(problem)
