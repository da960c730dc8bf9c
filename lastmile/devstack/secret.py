"""Passwords, tokens and shared secrets of a stack: made up once, kept where only the user can read them."""

import os
import secrets
from pathlib import Path

__all__ = ["kept_secret", "secret_file", "write_private"]


def kept_secret(directory: Path, name: str) -> str:
    """The secret called `name` of the stack in `directory`; made up the first time it is asked for."""
    file = secret_file(directory, name)
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, secrets.token_urlsafe(30))  # 40 characters, as NetBox wants them of a token
    return file.read_text()


def secret_file(directory: Path, name: str) -> Path:
    """Where the stack in `directory` keeps the secret called `name`."""
    return directory / "secrets" / name


def write_private(file: Path, text: str) -> None:
    """Write `file` so that nobody else can read it and nobody ever sees half of it."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text)
    draft.replace(file)
