"""Every error of Lastmile derives from `LastmileError`, ends in `Error`, and has its place in the drawn tree."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import pytest

import activities
import grafana
import ipam
import lastmile
import workflows
from lastmile import errors
from lastmile.errors import LastmileError

PACKAGES = (lastmile, activities, ipam, workflows, grafana)


def module_names() -> Iterator[str]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # A program runs when it is imported; a migration needs alembic's context.
            if not module.name.endswith(".__main__") and ".migrations." not in module.name:
                yield module.name


def exceptions() -> set[type[BaseException]]:
    """Return the exception classes that the modules define."""
    return {
        defined
        for name in module_names()
        for defined in vars(importlib.import_module(name)).values()
        if inspect.isclass(defined) and issubclass(defined, BaseException) and defined.__module__ == name
    }


@pytest.fixture(scope="module")
def ours() -> set[type[BaseException]]:
    return exceptions()


def test_every_error_derives_from_the_one_base_class(ours: set[type[BaseException]]) -> None:
    assert LastmileError in ours
    assert [error.__qualname__ for error in ours if not issubclass(error, LastmileError)] == []


def test_every_error_has_a_name_that_ends_in_error(ours: set[type[BaseException]]) -> None:
    assert [error.__qualname__ for error in ours if not error.__name__.endswith("Error")] == []


def test_error_tree_shows_every_error_with_subclasses(ours: set[type[BaseException]]) -> None:
    parents: dict[int, str] = {}
    drawn: set[tuple[str, str]] = set()
    for branch, name in re.findall(r"^    ((?:[│ ] {3})*(?:[├└]── )?)(\w+Error) ", errors.__doc__ or "", re.M):
        depth = len(branch) // 4
        parents[depth] = name
        if depth:
            drawn.add((parents[depth - 1], name))
    by_name = {error.__name__: error for error in ours}
    assert {(parent, name) for parent, name in drawn if not issubclass(by_name[name], by_name[parent])} == set()
    assert {error.__name__ for error in ours if error.__subclasses__()} <= {*parents.values(), *(n for _, n in drawn)}
