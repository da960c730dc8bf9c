"""The `lastmile` command. A command imports its code when it runs, so that `--help` is fast."""

import contextlib
import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command, and exit with its code."""
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
    except SystemExit as exit_:
        code = exit_.code
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Skip the interpreter's own shutdown: it waits for the threads of the Temporal SDK. After Ctrl-C in a call, such a
    # thread can wait for the interpreter: a deadlock.
    os._exit(code if isinstance(code, int) else code is not None)
