"""The exit code of a command, and the sentence for each failure."""

import asyncio
import traceback
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any, NoReturn

import typer

from lastmile.cli.output import OutputClosedError, print_error
from lastmile.errors import InvalidInputError, UnavailableError

__all__ = ["EPILOG", "Exit", "first_failure", "run"]


class Exit(IntEnum):
    """The exit codes of the command, for scripts."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNAVAILABLE = 3
    FAULT = 70
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


_MEANINGS = {
    Exit.DONE: "done; all orders completed or are degraded",
    Exit.FAILED: "an order is invalid, refused, rolled back, abandoned or lost; an unknown subscriber, pool or prefix; "
    "the audit found a violation; NetBox lacks something or differs",
    Exit.BAD_INPUT: "invalid usage, file, order or setting; no order was started, or no further order",
    Exit.UNAVAILABLE: "Temporal, the database, NetBox, a device controller or a server of the stack is not available",
    Exit.FAULT: "a fault in Lastmile itself",
    Exit.INTERRUPTED: "Ctrl-C; started orders continue in Temporal",
    Exit.OUTPUT_CLOSED: "the reader of the output, such as `head`, has closed it",
}

EPILOG = "\n".join(["Exit codes", *(f"{code.value:>4}  {meaning}" for code, meaning in _MEANINGS.items())])


def run(command: Coroutine[Any, Any, Exit]) -> NoReturn:
    """Run the command, print a failure to standard error, and exit with the command's code."""
    try:
        code = asyncio.run(command)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except OutputClosedError:
        code = Exit.OUTPUT_CLOSED
    except Exception as failure:
        code, words = _explain(first_failure(failure))
        print_error(words)
    raise typer.Exit(code)


def first_failure(failure: Exception) -> Exception:
    """Return the first failure of an exception group, or the failure itself."""
    while isinstance(failure, ExceptionGroup):
        failure = failure.exceptions[0]
    return failure


def _explain(failure: Exception) -> tuple[Exit, str]:
    if isinstance(failure, InvalidInputError):
        return Exit.BAD_INPUT, str(failure)

    from temporalio.service import RPCError

    from ipam.netbox.errors import NetBoxError
    from lastmile.client.errors import ClientError
    from lastmile.client.temporal.connection import TemporalUnreachableError
    from lastmile.client.temporal.settings import InvalidTemporalSettingsError
    from lastmile.encryption.keys import DecryptionError
    from lastmile.errors import NonRetryableError, OutageError

    match failure:
        case InvalidTemporalSettingsError():
            return Exit.BAD_INPUT, str(failure)
        case NonRetryableError() | ClientError():
            return Exit.FAILED, str(failure)
        case DecryptionError():
            return Exit.BAD_INPUT, f"Cannot decrypt the data in Temporal: {failure}"
        case UnavailableError() | OutageError() | TemporalUnreachableError() | NetBoxError():
            return Exit.UNAVAILABLE, str(failure)
        case RPCError():
            return (
                Exit.UNAVAILABLE,
                f"Temporal refused the request: {failure.message} ({failure.status.name})",
            )
        case _:
            place = traceback.extract_tb(failure.__traceback__)[-1]
            return Exit.FAULT, (
                f"{type(failure).__name__}: {failure}\n"
                f"This is a fault in Lastmile ({place.filename}:{place.lineno}) and not yours: please report it."
            )
