"""`lastmile controller`."""

import asyncio
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lastmile.cli.connections import check_tenant, load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_all, print_result
from lastmile.encryption.keys import KeyRing
from lastmile.errors import InvalidInputError, LastmileError
from lastmile.services.controllers import (
    NewController,
    StoredController,
    add_controller,
    list_controllers,
    remove_controller,
)
from lastmile.services.open_controllers import open_controller
from lastmile.telemetry.logs import set_up_logging
from lastmile.validation_messages import mistakes

__all__ = ["controller_add", "controller_check", "controller_list", "controller_remove"]

_OPTIONS = {
    "name": "NAME",
    "url": "--url",
    "username": "--username",
    "secret": "the password",
    "ca_file": "--ca-file",
    "timeout_seconds": "--timeout",
    "in_flight": "--in-flight",
}
_EMPTY = "There are no controllers yet: device steps are skipped. Add one with `lastmile controller add`."


async def controller_add(values: dict[str, Any], options_file: Path | None, *, replace: bool, as_json: bool) -> Exit:
    """Add or replace a controller."""
    settings = load_settings()
    async with open_database(settings) as database:
        await check_tenant(database, values["tenant"])
        new = _validate(values | {"options": _read_options(options_file)})
        added = await add_controller(database, new, settings.key_ring, replace=replace, actor=current_user())
    print_result(
        f"Controller {added.name} is responsible for {added.scope}. Workers use it after some ten seconds. "
        "Ask it with `lastmile controller check`.",
        as_json,
        **added.facts,
    )
    return Exit.DONE


def _validate(values: dict[str, Any]) -> NewController:
    """Make the model. Raises `InvalidInputError`, whose text does not contain the secret."""
    lists = {"olts": "--olt", "models": "--model"}
    names = _OPTIONS | {f"{field}.{n}": option for field, option in lists.items() for n in range(len(values[field]))}
    try:
        return NewController.model_validate(values)
    except ValidationError as failure:
        raise InvalidInputError(
            "Invalid controller:", mistakes(failure, NewController, names, show_values=False)
        ) from None


def _read_options(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        read = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError) as failure:
        reason = getattr(failure, "strerror", None) or "it is not text in UTF-8"
        raise InvalidInputError(f"--options-file: {file} cannot be read: {reason}.") from None
    except json.JSONDecodeError as failure:
        place = f"line {failure.lineno}, column {failure.colno}"
        raise InvalidInputError(f"--options-file: {file} is not JSON: see {place}.") from None
    if not isinstance(read, dict):
        raise InvalidInputError(f"--options-file: {file} must contain an object, as in {{…}}.")
    return read


async def controller_list(*, as_json: bool) -> Exit:
    """List all controllers."""
    async with open_database(load_settings()) as database:
        found = await list_controllers(database)
    print_all(
        [one.facts for one in found],
        as_json,
        ("controller", "driver", "URL", "user", "devices"),
        [(one.name, one.driver, one.url, one.username, str(one.scope)) for one in found],
        _EMPTY,
        spare=("user",),
    )
    return Exit.DONE


async def controller_check(*, as_json: bool) -> Exit:
    """Ask each controller; UNAVAILABLE if one does not answer."""
    settings = load_settings()
    set_up_logging(settings.log_format, settings.log_level)  # the error of a driver
    async with open_database(settings) as database:
        found = await list_controllers(database)
    asked = await asyncio.gather(*(_ask(one, settings.key_ring) for one in found))
    print_all(
        asked,
        as_json,
        ("controller", "URL", "answers", "detail"),
        [(one["name"], one["url"], "yes" if one["answers"] else "no", one["detail"]) for one in asked],
        _EMPTY,
    )
    return Exit.DONE if all(one["answers"] for one in asked) else Exit.UNAVAILABLE


async def _ask(stored: StoredController, keys: KeyRing | None) -> dict[str, Any]:
    """Return whether the controller answers, with its product or the reason as the detail."""
    try:
        controller = await open_controller(stored, keys)
        try:
            answers, detail = True, await controller.check()
        finally:
            controller.close()
            await controller.wait_closed()
    except LastmileError as failure:
        answers, detail = False, str(failure)
    return {"name": stored.name, "url": stored.url, "answers": answers, "detail": detail}


async def controller_remove(name: str, *, as_json: bool) -> Exit:
    """Remove a controller. Raises `UnknownControllerError`."""
    async with open_database(load_settings()) as database:
        removed = await remove_controller(database, name, actor=current_user())
    print_result(
        f"Controller {removed.name} removed. Workers stop asking it after some ten seconds.", as_json, **removed.facts
    )
    return Exit.DONE
