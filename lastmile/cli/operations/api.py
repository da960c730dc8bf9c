"""`lastmile api`: serve the REST API."""

from lastmile.api.serve import listen, run_many, serve
from lastmile.cli.connections import load_settings
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_text
from lastmile.errors import InvalidInputError
from lastmile.startup_checks import ConfigurationError
from lastmile.telemetry.logs import set_up_logging

__all__ = ["api"]

MOST_PROCESSES = 64


async def api(processes: int) -> Exit:
    """Serve until SIGINT or SIGTERM."""
    if not 1 <= processes <= MOST_PROCESSES:
        raise InvalidInputError(f"--processes: must be from 1 to {MOST_PROCESSES}, and is {processes}")
    settings = load_settings()
    set_up_logging(settings.log_format, settings.log_level)
    with listen(settings) as listener:
        print_text(f"The API answers at http://{settings.api_host}:{listener.getsockname()[1]}. Ctrl-C ends it.")
        if processes > 1:
            # This process serves nothing itself: it may block. Its children say what is wrong.
            status = run_many(settings, listener, processes)
            return Exit(status) if status in set(Exit) else Exit.FAILED
        try:
            await serve(settings, listener, settings.api_metrics_port)
        except ConfigurationError as failure:
            raise InvalidInputError("The API cannot start:", failure.problems) from None
    return Exit.DONE
