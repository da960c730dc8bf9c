"""Where the `temporal` command comes from: PATH, a cache, the SDK's own download, or the Go module proxy."""

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
    """There is no Temporal server and no way to get one; the message lists the ways."""


async def find_temporal(say: Callable[[str], None]) -> Path:
    """The `temporal` command; got the first time, which `say` announces when it takes a while.

    Raises:
        TemporalMissing: none could be found, downloaded or built.
    """
    if on_path := shutil.which("temporal"):
        return Path(on_path)
    cached = platformdirs.user_cache_path("lastmile") / f"temporal-{_VERSION}" / "temporal"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        with cached.with_name("lock").open("w") as lock:
            await _locked(lock, say)
            if not cached.exists():
                await _get(cached, say)
    return cached


async def _locked(lock: IO[str], say: Callable[[str], None]) -> None:
    said = False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not said:
                say("Another process is getting the Temporal dev server; waiting for it.")
            said = True
            await asyncio.sleep(_POLL_SECONDS)


async def _get(target: Path, say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        try:
            program = await _download(Path(scratch), say)
        except RuntimeError as error:
            say(f"That did not work: {error}")
            program = await _build(Path(scratch), say)
        program.replace(target)


async def _download(directory: Path, say: Callable[[str], None]) -> Path:
    """Let the SDK fetch its dev server, which it does on the way to starting one.

    Raises:
        RuntimeError: the SDK could not.
    """
    say(f"Downloading the Temporal dev server {_VERSION}; once, about a minute.")
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
            "There is no Temporal server. One of these gives you one: set TEMPORAL_ADDRESS to a cluster of "
            f"yours; put the `temporal` command (version {_VERSION} or later) on your PATH; allow downloads "
            "from https://temporal.download; or install Go, so that it can be built."
        )
    say(f"Building the Temporal dev server {_VERSION} with Go; once, about 6 minutes on two cores.")
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
