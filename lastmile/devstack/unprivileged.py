"""Room for a server that refuses to run as root.

Root's checkout often lies below a directory that nobody else may enter (`/root`, a private temporary
directory). Nobody's permissions are widened for it: what the server's login must reach is put elsewhere.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

__all__ = ["readable_copy", "roomy_directory", "within_reach"]

_HOME = Path("/var/lib/lastmile")


def within_reach(path: Path) -> bool:
    """Whether everybody may pass through the directories above `path`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.absolute().parents)


def roomy_directory(prefix: str) -> Path:
    """A new directory that everybody may enter, below `/var/lib/lastmile`; its name starts with `prefix`."""
    _HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=_HOME))
    directory.chmod(0o755)
    return directory


def readable_copy(*trees: Path) -> list[Path]:
    """The directories `trees`, side by side in a place within reach; copied the first time."""
    stamp = "".join(f"{tree}{tree.stat().st_mtime_ns}" for tree in trees)
    copy = _HOME / f"copy-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    if not copy.exists():
        draft = roomy_directory("draft-")
        for tree in trees:
            shutil.copytree(tree, draft / tree.name, symlinks=True)
        try:
            draft.rename(copy)
        except OSError:  # somebody else was faster
            shutil.rmtree(draft)
    return [copy / tree.name for tree in trees]
