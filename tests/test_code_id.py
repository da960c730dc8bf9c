"""The identifier of a worker's code: the same for the same source, another one after each change."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.readme import ROOT


def id_in(directory: Path) -> str:
    """Return what a process says that imports the source in this directory."""
    program = "from lastmile.code_id import code_id; print(code_id())"
    return subprocess.check_output([sys.executable, "-c", program], cwd=directory, text=True)


def test_code_id_changes_with_the_source_alone(tmp_path: Path) -> None:
    for package in ("activities", "ipam", "lastmile", "workflows"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    first = id_in(tmp_path)
    assert id_in(tmp_path) == first
    with (tmp_path / "ipam" / "pools.py").open("a") as file:
        file.write("# a change\n")
    assert id_in(tmp_path) != first
