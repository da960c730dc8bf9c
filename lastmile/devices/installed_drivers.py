"""The drivers of the installed packages (entry points of the group `lastmile.controllers`)."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from lastmile.devices.drivers import GROUP, Driver
from lastmile.errors import InvalidInputError
from lastmile.validation_messages import mistakes, suggest_name

__all__ = ["DriverError", "find_driver", "validate_options"]

_ATTRIBUTES = ("kind", "options", "open")


class DriverError(InvalidInputError):
    """No installed package has the driver, or the driver cannot be loaded."""


def find_driver(name: str) -> Driver:
    """Return the driver of this name. Raises `DriverError`."""
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in installed:
        known = f"The drivers are: {', '.join(sorted(installed))}." if installed else "No driver is installed."
        raise DriverError(f"There is no driver {name!r}. {known} {suggest_name(name, installed)}".rstrip())
    driver: Driver = _load(installed[name])
    if missing := [attribute for attribute in _ATTRIBUTES if not hasattr(driver, attribute)]:
        raise DriverError(f"{_place(installed[name])} lacks {' and '.join(missing)}: it is not a driver.")
    return driver


def validate_options(name: str, driver: Driver, given: Mapping[str, Any]) -> BaseModel:
    """Return the options as the driver's model. Raises `InvalidInputError`, whose text contains no value."""
    try:
        return driver.options.model_validate(given)
    except ValidationError as failure:
        problems = mistakes(failure, driver.options, show_values=False)
        raise InvalidInputError(f"Invalid options of driver {name}:", problems) from None


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ModuleNotFoundError as failure:
        raise DriverError(
            f"{_place(entry)} cannot be loaded: the Python module {failure.name} is not installed."
        ) from failure
    except Exception as failure:  # a driver is the code of an ISP
        raise DriverError(f"{_place(entry)} cannot be loaded: {type(failure).__name__}.") from failure


def _place(entry: EntryPoint) -> str:
    return f"Driver {entry.name} ({entry.value}{f' of {entry.dist.name}' if entry.dist else ''})"
