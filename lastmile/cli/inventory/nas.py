"""`lastmile nas`."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lastmile.cli.connections import load_settings, open_database
from lastmile.cli.current_user import current_user
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import console, fact_table, print_all, print_json, print_result
from lastmile.errors import InvalidInputError
from lastmile.radius.nas import NasChange, NasRecord
from lastmile.services.nas import add_nas, change_nas, find_nas, list_nas, remove_nas
from lastmile.validation_messages import mistakes

__all__ = ["nas_add", "nas_list", "nas_remove", "nas_set", "nas_show"]

_OPTIONS = {
    "address": "ADDRESS",
    "name": "--name",
    "coa_port": "--coa-port",
    "coa_address": "--coa-address",
    "type": "--type",
    "secret": "the secret",
}

_RESTART = "Restart FreeRADIUS if it reads its clients from the table `nas`: it reads them only when it starts."


async def nas_add(address: str, values: dict[str, Any], secret: str | Path, as_json: bool) -> Exit:
    """Add a NAS with its secret, or with the file of its secret. The same command again changes nothing."""
    record = _validate(NasRecord, {"address": address, "secret": _read_secret(secret)} | values)
    async with open_database(load_settings()) as database:
        added = await add_nas(database, record, actor=current_user())
    words = f"NAS {record.name} at {record.address} {f'added. {_RESTART}' if added else 'exists already, unchanged.'}"
    print_result(words, as_json, name=record.name, address=record.address, coa_port=record.coa_port, added=added)
    return Exit.DONE


async def nas_set(name: str, values: dict[str, Any], secret: str | Path | None, as_json: bool) -> Exit:
    """Change a NAS; values that are None stay. Raises `UnknownNasError`."""
    given = {field: value for field, value in values.items() if value is not None}
    if secret is not None:
        given["secret"] = _read_secret(secret)
    if not given:
        raise InvalidInputError(
            "Say what to change: --name, --secret-file, --ask-secret, --coa-address, --coa-port or --type."
        )
    change = _validate(NasChange, given)
    async with open_database(load_settings()) as database:
        changed = await change_nas(database, name, change, actor=current_user())
    restart = f" {_RESTART}" if secret is not None else ""
    print_result(f"NAS {changed['name']} at {changed['address']} changed.{restart}", as_json, **changed)
    return Exit.DONE


async def nas_remove(name: str, force: bool, as_json: bool) -> Exit:
    """Remove a NAS. Raises `UnknownNasError` and `NasInUseError`."""
    async with open_database(load_settings()) as database:
        removed = await remove_nas(database, name, force=force, actor=current_user())
    print_result(f"NAS {removed['name']} at {removed['address']} removed. {_RESTART}", as_json, **removed, removed=True)
    return Exit.DONE


Model = TypeVar("Model", NasRecord, NasChange)


def _validate(model: type[Model], values: dict[str, Any]) -> Model:
    """Make the model. Raises `InvalidInputError`, whose text does not contain the secret."""
    try:
        return model.model_validate(values)
    except ValidationError as failure:
        problems = mistakes(failure, model, _OPTIONS, show_values=False)
        raise InvalidInputError("Invalid NAS:", problems) from None


def _read_secret(given: str | Path) -> str:
    """Return the RADIUS shared secret, or the content of its file without the last line end."""
    if isinstance(given, str):
        return given
    try:
        return given.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as failure:
        raise InvalidInputError(f"{given} cannot be read: {getattr(failure, 'strerror', None) or failure}.") from None


async def nas_list(as_json: bool) -> Exit:
    """List all NAS."""
    async with open_database(load_settings()) as database:
        known = await list_nas(database)
    columns = ("NAS", "address", "CoA address", "CoA port", "type", "detail")
    fields = ("name", "address", "coa_address", "coa_port", "type", "description")
    rows = [tuple(nas[field] for field in fields) for nas in known]
    print_all(known, as_json, columns, rows, "There is no NAS yet. Add one: lastmile nas add ADDRESS --name NAME")
    return Exit.DONE


async def nas_show(name: str, as_json: bool) -> Exit:
    """Show one NAS. Raises `UnknownNasError`."""
    async with open_database(load_settings()) as database:
        found = await find_nas(database, name)
    for nas in found:
        if as_json:
            print_json(nas)
        else:
            console.print(fact_table("", nas))
    return Exit.DONE
