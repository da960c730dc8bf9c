"""`make` installs what the lock file says, also when an index has newer versions of its packages."""

import os
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.readme import ROOT

pytestmark = pytest.mark.timeout(900)  # an installation takes long on a busy machine

OLDEST_PIP = "22.3"  # the pip that Python 3.11.0 brings

# `plugin` asks for an extra of `measure`, the lock pins the plain name, and 2.0 is newer than the pin: a resolver takes
# 2.0 for the extra, and stops since the lock has no hash of it.
PACKAGES = {
    ("measure", "1.0"): "Provides-Extra: toml\nRequires-Dist: reader ; extra == 'toml'\n",
    ("measure", "2.0"): "Provides-Extra: toml\nRequires-Dist: reader ; extra == 'toml'\n",
    ("plugin", "1.0"): "Requires-Dist: measure[toml]\n",
    ("reader", "1.0"): "",
}
LOCKED = (("measure", "1.0"), ("plugin", "1.0"), ("reader", "1.0"))

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = """
import pathlib, shutil

def build_editable(directory, config_settings=None, metadata_directory=None):
    wheel = pathlib.Path("project-1.0-py3-none-any.whl")
    shutil.copy(wheel, directory)
    return wheel.name
"""


def make_wheel(directory: Path, name: str, version: str, metadata: str) -> Path:
    """A wheel with one module."""
    file = directory / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return file


def publish(index: Path, name: str, version: str, metadata: str) -> str:
    """Put a wheel into the index; its pin, as a lock file has it."""
    directory = index / name
    directory.mkdir(parents=True, exist_ok=True)
    wheel = make_wheel(directory, name, version, metadata)
    links = (f'<a href="{file.name}">{file.name}</a>\n' for file in sorted(directory.glob("*.whl")))
    (directory / "index.html").write_text("".join(links))
    return f"{name}=={version} --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose environments come with the oldest pip that Lastmile supports."""
    directory = tmp_path_factory.mktemp("pip")
    get = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*get, "--dest", str(directory), f"pip=={OLDEST_PIP}"], check=True)
    (pip,) = directory.glob("pip-*.whl")
    python = directory / "python"
    # The wheel installs itself into an environment without pip.
    python.write_text(
        f"#!/bin/sh\nset -e\n"
        f'test "$1 $2" = "-m venv" || exec "{sys.executable}" "$@"\n'
        f'"{sys.executable}" -m venv --without-pip "$3"\n'
        f'"$3/bin/python" "{pip}/pip" install --quiet --no-index "{pip}"\n'
    )
    python.chmod(0o755)
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a lock file, and beside it an index with a newer version of one of its packages."""
    pins = {
        (name, version): publish(tmp_path / "index", name, version, text) for (name, version), text in PACKAGES.items()
    }
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "backend.py").write_text(BACKEND)
    (project / "requirements.lock").write_text("".join(pins[locked] for locked in LOCKED))
    make_wheel(project, "project", "1.0", "Requires-Dist: plugin\n")
    return project


def make(project: Path, python: Path) -> subprocess.CompletedProcess[str]:
    """The rule by which `make demo` and `make test` install, in this folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "VIRTUAL_ENV"))}
    index = (project.parent / "index").as_uri()
    return subprocess.run(
        [shutil.which("make") or "make", "-f", str(ROOT / "Makefile"), f"PYTHON={python}", ".venv/installed"],
        cwd=project,
        env=kept | {"PIP_INDEX_URL": index, "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_with_the_oldest_pip_and_a_newer_version_visible_installs_the_lock(
    project: Path, old_python: Path
) -> None:
    ran = make(project, old_python)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (project / ".venv" / "installed").exists()
    listed = subprocess.check_output([project / ".venv/bin/python", "-m", "pip", "list", "--format=freeze"], text=True)
    assert {f"{name}=={version}" for name, version in LOCKED} | {f"pip=={OLDEST_PIP}"} <= set(listed.split())


@pytest.mark.parametrize("fault", ["another hash", "a package missing"])
def test_make_after_a_failed_install_leaves_no_mark(project: Path, old_python: Path, fault: str) -> None:
    lock = project / "requirements.lock"
    if fault == "another hash":
        lock.write_text(lock.read_text().replace("sha256:", "sha256:" + "0" * 64 + " #", 1))
    else:
        lock.write_text("".join(line for line in lock.read_text().splitlines(True) if not line.startswith("measure")))
    mark = project / ".venv" / "installed"
    mark.parent.mkdir()
    mark.touch()
    os.utime(mark, (0, 0))
    ran = make(project, old_python)
    assert ran.returncode != 0
    assert ("HASHES" if fault == "another hash" else "requires measure") in ran.stdout + ran.stderr
    assert not mark.exists()
