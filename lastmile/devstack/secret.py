"""The passwords, tokens and shared secrets of a stack: generated once, in files that only the user can read."""

import os
import secrets
from pathlib import Path

__all__ = ["ensure_secret", "secret_file", "write_private"]


def ensure_secret(directory: Path, name: str) -> str:
    """Return the secret `name` of the stack in `directory`. The first call generates it."""
    file = secret_file(directory, name)
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, secrets.token_urlsafe(30))  # 40 characters, the length of a NetBox token
    return file.read_text()


def secret_file(directory: Path, name: str) -> Path:
    """Return the file of the secret `name` of the stack in `directory`."""
    return directory / "secrets" / name


def write_private(file: Path, text: str) -> None:
    """Write `file` atomically, so that only the user can read it."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text)
    draft.replace(file)
