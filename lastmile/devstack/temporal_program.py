"""The `temporal` command: from the PATH, a cache, the SDK's own download, or the Go module proxy."""

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import platformdirs
from temporalio.testing import WorkflowEnvironment

from lastmile.errors import LastmileError

__all__ = ["TemporalMissingError", "find_temporal"]

_VERSION = "v1.5.1"
_GO_MODULE = f"github.com/temporalio/cli/cmd/temporal@{_VERSION}"
_POLL_SECONDS = 0.5


class TemporalMissingError(LastmileError):
    """The Temporal server is missing, and cannot be downloaded or built. The message has the remedies."""


async def find_temporal(say: Callable[[str], None]) -> Path:
    """Return the path of the `temporal` command. The first call downloads or builds it, and announces that by `say`.

    Raises:
        TemporalMissingError: the command could not be found, downloaded or built.
    """
    if on_path := shutil.which("temporal"):
        return Path(on_path)
    cached = platformdirs.user_cache_path("lastmile") / f"temporal-{_VERSION}" / "temporal"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with cached.with_name("lock").open("w") as lock:
            await _wait_for_lock(lock, say)
            if not cached.exists():
                await _install(cached, say)
    return cached


async def _wait_for_lock(lock: IO[str], say: Callable[[str], None]) -> None:
    said = False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not said:
                say("Another process installs the Temporal dev server. Waiting for that process.")
            said = True
            await asyncio.sleep(_POLL_SECONDS)


async def _install(target: Path, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        try:
            program = await _download(Path(scratch), say)
        except RuntimeError as error:
            say(f"The download failed: {error}")
            program = await _build(Path(scratch), say)
        program.replace(target)


async def _download(directory: Path, say: Callable[[str], None]) -> Path:
    """Download the dev server by the SDK, which does that when it starts one.

    Raises:
        RuntimeError: the download failed.
    """
    say(f"Downloading the Temporal dev server {_VERSION}. This happens once, and takes about a minute.")
    async with await WorkflowEnvironment.start_local(
        download_dest_dir=str(directory), dev_server_download_version=_VERSION
    ):
        pass
    return _only_program(directory)


def _only_program(directory: Path) -> Path:
    (program,) = (file for file in directory.iterdir() if os.access(file, os.X_OK))
    return program


async def _build(directory: Path, say: Callable[[str], None]) -> Path:
    go = shutil.which("go")
    if go is None:
        raise TemporalMissingError(
            "There is no Temporal server. Do one of these: set TEMPORAL_ADDRESS to an existing cluster; put the "
            f"`temporal` command (version {_VERSION} or later) on the PATH; allow downloads from "
            "https://temporal.download; or install Go, so that Lastmile can build the server."
        )
    say(f"Building the Temporal dev server {_VERSION} with Go. This happens once, and takes 6 minutes on two cores.")
    build = await asyncio.create_subprocess_exec(
        *(go, "install", _GO_MODULE),
        env={**os.environ, "GOBIN": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await build.communicate()
    finally:
        if build.returncode is None:
            build.kill()
            await build.wait()
    if build.returncode:
        tail = "\n".join(output.decode(errors="replace").splitlines()[-15:])
        raise TemporalMissingError(f"`go install {_GO_MODULE}` failed:\n{tail}")
    return directory / "temporal"
