"""`lastmile cleanup`: the daily cleanup with other limits, or as a dry run."""

from pydantic import ValidationError

from lastmile.cli.connections import connect_temporal, load_settings
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, fact_table, print_error, print_json, print_text
from lastmile.client.errors import CleanupStoppedError
from lastmile.client.manual_cleanup import run_cleanup
from lastmile.contract import Cleanup, CleanupResult
from lastmile.errors import InvalidInputError
from lastmile.validation_messages import mistakes

__all__ = ["cleanup"]

_WORDS = {
    "revoking_stuck": "revocations that were stuck",
    "revoking_completed": "  of them completed",
    "allocated_stale": "prefixes allocated and not active",
    "revoked_deleted": "ended delegations deleted",
    "audit_entries_purged": "entries of the audit log purged",
    "events_purged": "events of delegations purged",
    "netbox_removed": "records removed from NetBox",
    "errors": "errors",
}


async def cleanup(*, as_json: bool, **requested: float | bool) -> Exit:
    """Run the cleanup, and wait until it has ended; FAILED if it had errors. Raises `AlreadyRunningError`."""
    try:
        limits = Cleanup.model_validate(requested)
    except ValidationError as failure:
        options = {name: f"--{name.replace('_', '-')}" for name in requested}
        raise InvalidInputError("Cannot start the cleanup:", mistakes(failure, Cleanup, options)) from None
    settings = load_settings()
    try:
        result = await run_cleanup(await connect_temporal(settings), limits, _announce)
    except CleanupStoppedError as failure:
        print_error(str(failure))
        return Exit.FAILED
    _show(result, as_json)
    return Exit.FAILED if result.errors else Exit.DONE


def _announce(run: str) -> None:
    print_error(
        f"The cleanup runs in Temporal as {run}, and waits there while no worker answers. Ctrl-C does not stop it."
    )


def _show(result: CleanupResult, as_json: bool) -> None:
    if as_json:
        print_json(result.model_dump())
        return
    title = "Dry run: nothing was changed" if result.dry_run else "Cleanup"
    console.print(fact_table(title, {words: f"{getattr(result, name):,}" for name, words in _WORDS.items()}))
    for note in result.notes:
        print_text(note)
    for problem in result.problems:
        print_error(problem)
