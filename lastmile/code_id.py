"""The identifier of the code that a worker runs."""

from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

__all__ = ["code_id"]

_PACKAGES = ("activities", "ipam", "lastmile", "workflows")


@cache
def code_id() -> str:
    """Return a hash of our source and of the version of Temporal's SDK, in milliseconds.

    The SDK's default reads the bytecode of every imported module: 0.2 s of processor time at the start of each worker,
    and some seconds where no bytecode is cached.
    """
    content = sha256(version("temporalio").encode())
    for package in _PACKAGES:
        found = find_spec(package)
        for directory in (found and found.submodule_search_locations) or ():
            for file in sorted(Path(directory).rglob("*.py")):
                content.update(file.read_bytes())
    return content.hexdigest()[:32]
