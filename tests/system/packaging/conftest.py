"""The wheel, which all processes of a test run share."""

import fcntl
import os
from pathlib import Path

import pytest

from tests.system.packaging.environments import build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel; the first process that needs it builds it."""
    own = tmp_path_factory.getbasetemp()
    directory = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "wheel"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return next(directory.glob("*.whl"), None) or build_wheel(directory)
