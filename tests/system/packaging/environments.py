"""Fresh environments with Lastmile as a wheel, as a production machine has it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.readme import ROOT
from tests.system.packaging.lock import lock_of

__all__ = ["Installed", "build_wheel", "install"]


class Installed:
    """An environment of its own, whose programs run in a folder outside of the repository."""

    def __init__(self, directory: Path, folder: Path) -> None:
        self.bin = directory / "bin"
        self.folder = folder

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end, which must have this status."""
        kept = {name: value for name, value in os.environ.items() if name.split("_")[0] in ("PATH", "HOME", "LANG")}
        ran = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder,
            env=kept | {"COLUMNS": "200", "LASTMILE_STATE_DIR": str(self.folder)} | dict(environment or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran


def build_wheel(directory: Path) -> Path:
    """Build the wheel from a copy of what git knows, and no file that an earlier build has left."""
    source = directory / "source"
    listed = subprocess.check_output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory), str(source))
    return next(directory.glob("lastmile-*.whl"))


def install(directory: Path, wheel: Path, *wanted: str, python: str = sys.executable) -> Installed:
    """Install the wheel, and these requirements as the lock file says, into a fresh environment."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(directory / "env")], check=True)
    folder = directory / "elsewhere"
    folder.mkdir()
    installed = Installed(directory / "env", folder)
    version = installed.run("python", "-c", "import platform; print(platform.python_version())").stdout.strip()
    lock = directory / "lock"
    lock.write_text(lock_of(*wanted, python=version))
    into = "--python", str(installed.bin / "python")
    _pip(*into, "install", "--no-compile", "--no-deps", "--require-hashes", "-r", str(lock))
    _pip(*into, "install", "--no-compile", "--no-deps", str(wheel))
    _pip(*into, "check")
    return installed


def _pip(*arguments: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
