"""The lock file on other supported Pythons that this machine has: the newest; in `make test-every-way` all of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.readme import ROOT
from tests.system.packaging.environments import install

pytestmark = pytest.mark.timeout(900)  # an installation takes long on a busy machine

SUPPORTED = ("3.11", "3.12", "3.13")
TOOLS = ("hypothesis", "pytest", "pytest-asyncio", "pytest-timeout")

# Data, encryption, the command's parsing, and one order on real servers through the workflow sandbox.
TESTS = (
    "tests/encryption/test_keys.py",
    "tests/contract/test_orders.py",
    "tests/workflows/test_provision.py::test_provision_creates_a_line_in_service",
)


def others() -> dict[str, str]:
    """Return the programs of supported Pythons but this one: on PATH, or where pyenv keeps them."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in SUPPORTED:
        programs = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        runs = [program for program in programs if program and _is(program, version)]
        if runs and version != f"{sys.version_info.major}.{sys.version_info.minor}":
            found[version] = runs[0]
    return found if "LASTMILE_EVERY_CASE" in os.environ else dict([*found.items()][-1:])


def _is(program: str, version: str) -> bool:
    """Whether it runs, and has `venv`; the shims of pyenv exist for versions that are not selected."""
    check = f"import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    return subprocess.run([program, "-c", check], capture_output=True, check=False).returncode == 0


# A machine may have this Python alone: `make test` has then shown all that can be shown.
@pytest.mark.parametrize(("version", "program"), [*others().items()] or [("this", sys.executable)])
def test_lock_on_another_python_runs_orders(tmp_path: Path, wheel: Path, version: str, program: str) -> None:
    installed = install(tmp_path, wheel, "lastmile[stack,tracing,voltha]", *TOOLS, python=program)
    installed.folder = ROOT
    ran = installed.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert "passed" in ran.stdout
