"""The operator: for the audit log, and for decisions."""

import getpass

from lastmile.contract import AnyOrder
from lastmile.fields.unsafe import escape

__all__ = ["actor", "on_behalf"]


LONGEST_NAME = 100
"""Of `requested_by`. The environment (`LOGNAME`) can name anybody."""


def actor() -> str:
    """The operating system's user; empty where it has no name, which the audit log reads as the database's login."""
    try:
        return escape(getpass.getuser())[:LONGEST_NAME]
    except (KeyError, OSError):  # a container's user that is only a number: KeyError until Python 3.12
        return ""


def on_behalf(order: AnyOrder) -> AnyOrder:
    """The order, as requested by whoever types the command where it does not say itself."""
    return order if order.requested_by else order.model_copy(update={"requested_by": actor()})
