"""How long a worker may take to answer."""

from datetime import timedelta

__all__ = ["ANSWER_TIME"]

ANSWER_TIME = timedelta(seconds=15)
"""How long a worker may take to answer a query or an update. One that runs answers within milliseconds.

Temporal asks the worker that answered last for up to ten seconds, and then any worker. Without a limit it waits for
minutes. A run whose step hangs answers when the SDK ends its workflow task, after eight seconds. Modules read the value
at each call, so that a test can shorten it.
"""
