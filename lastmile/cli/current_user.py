"""The user who runs the command: the actor of its changes in the audit log, and of its decisions."""

import getpass

from lastmile.fields.unsafe import escape

__all__ = ["current_user"]

LONGEST_NAME = 100
"""The limit of `requested_by`. The environment variable LOGNAME can hold any text."""


def current_user() -> str:
    """Return the login name; empty if the user has none: then the audit log names the database login."""
    try:
        return escape(getpass.getuser())[:LONGEST_NAME]
    except (KeyError, OSError):  # a container's user without a name: KeyError before Python 3.13
        return ""
