"""The `lastmile` command. What a command does is imported when it runs, so that `--help` is there at once."""

import contextlib
import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """The console script."""
    from lastmile.cli.app import app
    from lastmile.cli.arguments import check_text
    from lastmile.cli.exit_codes import Exit
    from lastmile.cli.output import print_error
    from lastmile.errors import InvalidInputError

    code: object = 0
    try:
        check_text(sys.argv[1:])
        app()
    except InvalidInputError as failure:
        print_error(str(failure))
        code = Exit.BAD_INPUT
    except SystemExit as ending:
        code = ending.code
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not by way of the interpreter's own end: it waits for the Temporal SDK's threads, and where a call was cut
    # off (Ctrl-C) one of those can be waiting for the interpreter.
    os._exit(code if isinstance(code, int) else code is not None)
