"""Passwords and shared secrets of a stack: made up once, kept where only the user can read them."""

import os
import secrets
from pathlib import Path

__all__ = ["kept_secret", "write_private"]


def kept_secret(directory: Path, name: str) -> str:
    """The secret called `name` of the stack in `directory`; made up the first time it is asked for."""
    file = directory / "secrets" / name
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, secrets.token_urlsafe(24))
    return file.read_text()


def write_private(file: Path, text: str) -> None:
    """Write `file` so that nobody else can read it and nobody ever sees half of it."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text)
    draft.replace(file)
