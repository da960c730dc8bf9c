"""Fixtures of the stack's tests, each with its own state directory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def state() -> Iterator[Path]:
    """An empty state directory that other logins may enter, as PostgreSQL's."""
    with tempfile.TemporaryDirectory(prefix="lastmile-state-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)
