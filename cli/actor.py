"""Who types the commands, for the trail."""

import getpass

__all__ = ["actor"]


def actor() -> str:
    """The operating system's user; empty, which stands for the database's login, where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user that is only a number: KeyError until Python 3.12
        return ""
