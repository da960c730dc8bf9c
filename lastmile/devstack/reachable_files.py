"""Files and directories that another login can reach, for a server that refuses to run as root.

Root's checkout is often below a directory that other users may not enter (`/root`, a private temporary directory). No
permissions of such a directory are changed: files that the server's login needs are copied to another place.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

__all__ = ["copy_to_reachable_place", "create_reachable_directory", "is_reachable"]

_HOME = Path("/var/lib/lastmile")


def is_reachable(path: Path) -> bool:
    """Return whether every user may enter the directories above `path`."""
    return all(parent.stat().st_mode & 0o001 for parent in path.absolute().parents)


def create_reachable_directory(prefix: str) -> Path:
    """Create a directory below `/var/lib/lastmile` that every user may enter; its name starts with `prefix`."""
    _HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=_HOME))
    directory.chmod(0o755)
    return directory


def copy_to_reachable_place(*trees: Path) -> list[Path]:
    """Copy the directories `trees` side by side to a reachable place, and return the copies. Reuse an earlier copy."""
    stamp = "".join(f"{tree}{tree.stat().st_mtime_ns}" for tree in trees)
    copy = _HOME / f"copy-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}"
    if not copy.exists():
        draft = create_reachable_directory("draft-")
        for tree in trees:
            shutil.copytree(tree, draft / tree.name, symlinks=True)
        try:
            draft.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return [copy / tree.name for tree in trees]
