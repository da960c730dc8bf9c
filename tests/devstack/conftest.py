"""Fixtures of the stack's tests, each with its own state directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.state import state_directory


@pytest.fixture
def state() -> Iterator[Path]:
    """An empty state directory that other logins may enter, as PostgreSQL's."""
    with state_directory() as directory:
        yield directory
