"""The `lastmile` command. What a command does is imported when it runs, so that `--help` is there at once."""

import contextlib
import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """The console script."""
    from cli.app import app

    code: object = 0
    try:
        app()
    except SystemExit as ending:
        code = ending.code
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Not by way of the interpreter's own end: it waits for the Temporal SDK's threads, and where a call was cut
    # off (Ctrl-C) one of those can be waiting for the interpreter.
    os._exit(code if isinstance(code, int) else code is not None)
