"""What the lock file says of some of its packages."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import requires

from packaging.markers import default_environment
from packaging.requirements import Requirement

from tests.support.readme import ROOT

__all__ = ["lock_of"]

LOCK = ROOT / "requirements.lock"


def lock_of(*wanted: str, python: str) -> str:
    """The lock's lines of these requirements and all that they need, for this version of Python."""
    environment = {**default_environment(), "python_full_version": python, "python_version": python.rpartition(".")[0]}
    names = _closure(map(Requirement, wanted), environment)
    entries = re.split(r"^(?=\S)", LOCK.read_text(), flags=re.MULTILINE)
    return "".join(entry for entry in entries if _normal(entry.partition("==")[0]) in names)


def _closure(wanted: Iterable[Requirement], environment: Mapping[str, str]) -> set[str]:
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(requirement, extra) for requirement in wanted for extra in ("", *requirement.extras)]
    while todo:
        requirement, extra = todo.pop()
        name = _normal(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        names.add(name)
        for text in requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({**environment, "extra": extra}):
                todo += [(needed, further) for further in ("", *needed.extras)]
    return names - {"lastmile"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
